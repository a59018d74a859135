"""`pilothouse files`: a session's workspace, listed or brought here."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

import click

from pilothouse.cli import options
from pilothouse.cli.archive import DOWNLOAD_MAX, unpack
from pilothouse.cli.client import Client
from pilothouse.cli.context import connected
from pilothouse.cli.errors import Failure
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import name, size


@click.command()
@click.argument("session", type=options.UUID)
@click.argument("path", default="")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Download PATH into this directory.")
@click.option("--zip", "archive", type=click.Path(dir_okay=False, path_type=Path), help="Download PATH as this file.")
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@click.pass_context
def files(context: click.Context, session: str, path: str, out: Path | None, archive: Path | None, force: bool) -> None:
    """List the files of SESSION below PATH, or download them."""
    if out is not None and archive is not None:
        raise click.UsageError("--out and --zip exclude each other.")
    if archive is not None and archive.exists() and not force:
        raise click.UsageError(f"--zip: {archive} exists; --force overwrites it.")

    async def work(client: Client, terminal: Terminal) -> int:
        if out is not None:
            await download(client, terminal, session, out, path=path, force=force)
        elif archive is not None:
            await _save(client, session, path, archive)
        else:
            listing = await client.files(session, path)
            for entry in listing.entries:
                mark = {"directory": "/", "link": "@", "other": "?"}.get(entry.kind, "")
                amount = size(entry.size) if entry.kind == "file" else ""
                terminal.write(f"{amount:>10}  {name(entry.name)}{mark}\n")
        return 0

    connected(context, work)


async def download(
    client: Client, terminal: Terminal, session: str, out: Path, *, path: str = "", force: bool = False
) -> None:
    """The workspace below `path` as files in `out`."""
    with tempfile.TemporaryFile() as file:
        await _fetch(client, session, path, file)
        file.seek(0)
        result = unpack(file, out, force=force)
    if result.kept:
        terminal.notice(f"{len(result.kept)} files exist and were kept (--force overwrites): {_few(result.kept)}")
    terminal.notice(f"{result.written} files written to {out}")


async def _save(client: Client, session: str, path: str, archive: Path) -> None:
    """Whole or not at all: a half archive under the wanted name would look like success."""
    part = archive.with_name(archive.name + ".part")
    try:
        with part.open("xb") as file:
            await _fetch(client, session, path, file)
        part.replace(archive)
    except OSError as error:
        raise Failure(f"{error.filename or archive}: {error.strerror or error}") from None
    finally:
        part.unlink(missing_ok=True)


async def _fetch(client: Client, session: str, path: str, file: IO[bytes]) -> None:
    got = 0
    async with client.download(f"/api/sessions/{session}/files/zip", {"path": path}) as chunks:
        async for chunk in chunks:
            got += len(chunk)
            if got > DOWNLOAD_MAX:
                raise Failure(f"The download is larger than {DOWNLOAD_MAX} bytes.")
            file.write(chunk)


def _few(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(name(kept) for kept in names[:5]) + more
