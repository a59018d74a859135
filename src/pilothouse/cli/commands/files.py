"""`pilothouse files`: a session's workspace, or what a job made in it, listed or brought here."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

import click

from pilothouse.cli import options, wire
from pilothouse.cli.archive import DOWNLOAD_MAX, unpack
from pilothouse.cli.client import Client
from pilothouse.cli.context import connected
from pilothouse.cli.errors import Failure, Refused
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import exact, name, size, some


@click.command()
@click.argument("session", type=options.ANY_ID, metavar="SESSION|JOB")
@click.argument("path", default="")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Download PATH into this directory.")
@click.option("--zip", "archive", type=click.Path(dir_okay=False, path_type=Path), help="Download PATH as this zip.")
@click.option("--force", is_flag=True, help="Overwrite files that exist.")
@click.pass_context
def files(context: click.Context, session: str, path: str, out: Path | None, archive: Path | None, force: bool) -> None:
    """List the files of SESSION or JOB, or download them.

    Of a session: what is in its workspace now. PATH is a directory or a file of it. A directory is listed, or
    downloaded with --out or --zip. A file is always downloaded: into the current directory where neither is given.

    Of a job: what it made or changed, as it was when the job ended; PATH is a file of that.

    In --out a name that could do harm here has %XX in the place of what could.
    """
    if out is not None and archive is not None:
        raise click.UsageError("--out and --zip exclude each other.")
    if archive is not None and archive.exists() and not force:
        raise click.UsageError(f"--zip: {archive} exists; --force overwrites it.")

    async def work(client: Client, terminal: Terminal) -> int:
        try:
            await _of_session(client, terminal, session, path, out, archive, force)
        except Refused as refusal:
            if refusal.status != 404:
                raise
            with options.known(f"session or job {session}"):
                try:
                    found = await client.artifacts(session)
                except Refused as error:
                    raise (refusal if error.status == 404 else error) from None
            await _of_job(client, terminal, session, found, path, out, archive, force)
        return 0

    connected(context, work)


async def _of_session(
    client: Client, terminal: Terminal, session: str, path: str, out: Path | None, archive: Path | None, force: bool
) -> None:
    listing = await _listing(client, session, path)
    if archive is not None and listing is not None:
        with _whole(archive, force) as file:
            await _fetch(client, _place(session, "zip"), {"path": path}, file)
        _written(terminal, archive)
    elif listing is None:
        await _save_file(client, terminal, _place(session, "content"), {"path": path}, path, out, archive, force)
    elif out is not None:
        await download(client, terminal, session, out, path=path, force=force)
    else:
        _show(terminal, listing)


async def _listing(client: Client, session: str, path: str) -> wire.Listing | None:
    """None: `path` is no directory (400), or is not there. Whether it is a file shows when it is asked for."""
    try:
        return await client.files(session, path)
    except Refused as refusal:
        if refusal.status not in {400, 404} or not path:
            raise
        return None


async def _of_job(
    client: Client,
    terminal: Terminal,
    job: str,
    found: list[wire.JobArtifact],
    path: str,
    out: Path | None,
    archive: Path | None,
    force: bool,
) -> None:
    if path:
        one = _named(found, path)
        await _save_file(client, terminal, f"/api/artifacts/{one.id}/content", {}, path, out, archive, force)
        return
    if out is None and archive is None:
        for one in found:
            why = f"  (not kept: {exact(one.reason or '')})" if one.state == "skipped" else ""
            terminal.write(f"{size(one.size):>10}  {name(one.path)}{why}\n")
        return
    left = sum(one.state == "skipped" for one in found)
    if left:
        terminal.notice(f"{some(left, 'file')} of the job {'was' if left == 1 else 'were'} not kept, and cannot come.")
    place = f"/api/jobs/{job}/artifacts/zip"
    if archive is not None:
        with _whole(archive, force) as file:
            await _fetch(client, place, {}, file)
        _written(terminal, archive)
    elif out is not None:
        await _unpacked(client, terminal, place, {}, out, force=force)


def _named(found: list[wire.JobArtifact], path: str) -> wire.JobArtifact:
    one = next((one for one in found if one.path == str(PurePosixPath(path))), None)
    if one is None:
        raise Failure(
            f"Among the files that the job made or changed is no {name(path)}; without a path they are listed."
        )
    if one.state == "skipped":
        raise Failure(f"{name(path)} was not kept: {exact(one.reason or '')}")
    return one


def _show(terminal: Terminal, listing: wire.Listing) -> None:
    for entry in listing.entries:
        mark = {"directory": "/", "link": "@", "other": "?"}.get(entry.kind, "")
        amount = size(entry.size) if entry.kind == "file" else ""
        terminal.write(f"{amount:>10}  {name(entry.name)}{mark}\n")


async def download(
    client: Client, terminal: Terminal, session: str, out: Path, *, path: str = "", force: bool = False
) -> None:
    """The workspace below `path` as files in `out`."""
    await _unpacked(client, terminal, _place(session, "zip"), {"path": path}, out, force=force)


async def _unpacked(
    client: Client,
    terminal: Terminal,
    place: str,
    params: dict[str, str],
    out: Path,
    *,
    force: bool,
) -> None:
    with tempfile.TemporaryFile() as file:
        await _fetch(client, place, params, file)
        file.seek(0)
        result = unpack(file, out, force=force)
    if result.kept:
        exist = "exists and was kept" if len(result.kept) == 1 else "exist and were kept"
        kept = some(len(result.kept), "file")
        terminal.notice(f"{kept} {exist} (--force overwrites): {_few(result.kept)}")
    if result.renamed:
        has = "has another name" if len(result.renamed) == 1 else "have other names"
        terminal.notice(f"{some(len(result.renamed), 'file')} {has} here: {_few(result.renamed)}")
    terminal.notice(f"{some(result.written, 'file')} written to {out}")


async def _save_file(
    client: Client,
    terminal: Terminal,
    place: str,
    params: dict[str, str],
    path: str,
    out: Path | None,
    archive: Path | None,
    force: bool,
) -> None:
    """A single file, which we pack where a zip is wanted."""
    target = archive or (out or Path()) / PurePosixPath(path).name
    with _whole(target, force) as file:
        if archive is None:
            await _fetch(client, place, params, file)
        else:
            with tempfile.TemporaryFile() as content:
                await _fetch(client, place, params, content)
                content.seek(0)
                with (
                    zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made,
                    made.open(str(PurePosixPath(path)), "w", force_zip64=True) as member,
                ):
                    shutil.copyfileobj(content, member)
    _written(terminal, target)


def _written(terminal: Terminal, place: Path) -> None:
    terminal.notice(f"{place} written ({size(place.stat().st_size)})")


@contextmanager
def _whole(place: Path, force: bool) -> Iterator[IO[bytes]]:
    """The file whole or not at all: half of it under the wanted name would look like success."""
    if os.path.lexists(place) and not force:
        raise Failure(f"{place} exists; --force overwrites it.")
    part = place.with_name(place.name + ".part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        file = part.open("xb")
        try:
            with file:
                yield file
            part.replace(place)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise Failure(f"{error.filename or place}: {error.strerror or error}") from None


def _place(session: str, what: str) -> str:
    return f"/api/sessions/{session}/files/{what}"


async def _fetch(client: Client, place: str, params: dict[str, str], file: IO[bytes]) -> None:
    got = 0
    async with client.download(place, params) as chunks:
        async for chunk in chunks:
            got += len(chunk)
            if got > DOWNLOAD_MAX:
                raise Failure(f"The download is larger than {DOWNLOAD_MAX} bytes.")
            file.write(chunk)


def _few(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(name(kept) for kept in names[:5]) + more
