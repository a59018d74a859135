"""This machine's own server: finding it by its files, or starting one for as long as a command runs."""

from __future__ import annotations

import asyncio
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import IO

import aiohttp
import msgspec

from pilothouse import client
from pilothouse.cli.client import CUT, KEY_HELP, Endpoint
from pilothouse.cli.errors import NoServer
from pilothouse.cli.settings import Settings
from pilothouse.client.transport import checked

START_S = 60
"""The first start of a server may make its database and try the sandbox."""
STOP_S = 20
"""A server that was asked to end gets this long; its sessions do not depend on it."""
GRACE_S = 10
"""A server that was there and is gone is probably being restarted: ours would stand in its way."""
LOOK_S = 0.05
SERVE = (sys.executable, "-P", "-m", "pilothouse", "serve", "--port", "0")
TAIL = 2000
"""Bytes of a failed server's last words."""


class _File(msgspec.Struct, frozen=True):
    url: str
    pid: int
    fingerprint: str = ""


def locate(settings: Settings) -> Endpoint:
    """The named server, or this machine's running one. Raises `NoServer`."""
    if settings.url:
        try:
            return Endpoint(checked(settings.url, "PILOTHOUSE_URL"), settings.key)
        except client.NoServer as error:
            raise NoServer(str(error)) from None
    found = _read(settings)
    if found is None:
        raise NoServer(
            "No Pilothouse server runs on this machine. Start one with `pilothouse serve`, "
            "or name another with PILOTHOUSE_URL."
        )
    return _endpoint(found, settings.key or _key(settings))


def _endpoint(found: _File, key: str) -> Endpoint:
    whole = re.fullmatch(r"[0-9a-f]{64}", found.fingerprint) is not None
    return Endpoint(found.url.rstrip("/"), key, found.fingerprint if whole else "")


def _read(settings: Settings) -> _File | None:
    try:
        found = msgspec.json.decode(settings.server_file.read_bytes(), type=_File)
    except (OSError, msgspec.MsgspecError, ValueError):
        return None
    # A file left behind by a killed server must not send our key to whoever has its port now.
    return found if _alive(found.pid) else None


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (OSError, OverflowError):
        return False
    return pid > 0


def _key(settings: Settings) -> str:
    try:
        return settings.key_file.read_text().strip()
    except (OSError, ValueError):
        raise NoServer(f"The server's key file {settings.key_file} cannot be read. {KEY_HELP}") from None


class Server:
    """Gives the running server, or starts one and ends it with the `async with`."""

    def __init__(self, settings: Settings, *, start: bool, command: Sequence[str] = SERVE) -> None:
        self._settings = settings
        self._command = command
        self._start = start and not settings.url
        self._child: asyncio.subprocess.Process | None = None
        self._seen = False
        self._missing_since: float | None = None
        self._words: IO[bytes] | None = None

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._end()

    async def find(self) -> Endpoint:
        now = asyncio.get_running_loop().time()
        try:
            found = locate(self._settings)
            self._seen, self._missing_since = True, None
        except NoServer:
            self._missing_since = self._missing_since or now
            if not self._start or (self._seen and now - self._missing_since < GRACE_S):
                raise
            found = await self._begin()
            self._seen, self._missing_since = True, None
        return found

    async def _begin(self) -> Endpoint:
        """Starts the child and waits until it is ready. Another server may win the race: then that one is used."""
        await self._end()
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  lives as long as the child
        # A session of its own: Ctrl-C here interrupts the job, and must not end the server under it.
        self._child = await asyncio.create_subprocess_exec(
            *self._command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=self._words,
            start_new_session=True,
        )
        why = "it did not become ready"
        try:
            async with asyncio.timeout(START_S), aiohttp.ClientSession() as http:
                while True:
                    found = _read(self._settings)
                    if found is not None:
                        why = await _not_ready(http, _endpoint(found, "")) or ""
                        if not why:
                            return locate(self._settings)
                    elif self._child.returncode is not None:
                        break
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            pass
        running = self._child.returncode is None
        reasons = [f"not ready after {START_S} s: {why}"] if running else []
        said = self._last_words()
        await self._end()
        raise NoServer("\n".join(["The server could not be started.", *reasons, said]).rstrip())

    def _last_words(self) -> str:
        if self._words is None:
            return ""
        size = self._words.seek(0, os.SEEK_END)
        self._words.seek(max(0, size - TAIL))
        return self._words.read().decode(errors="replace").strip()

    async def _end(self) -> None:
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            child.terminate()
            try:
                async with asyncio.timeout(STOP_S):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()
        if self._words is not None:
            self._words.close()
            self._words = None


async def _not_ready(http: aiohttp.ClientSession, server: Endpoint) -> str | None:
    """None when it is ready, else why not."""
    try:
        async with http.get(f"{server.url}/readyz", timeout=aiohttp.ClientTimeout(total=5), ssl=server.tls) as answer:
            return None if answer.status == 200 else (await answer.text())[:TAIL]
    except (*CUT, aiohttp.ClientError) as error:
        return str(error)
