"""A bucket: moto's server in a process of its own, and a relay before it that fails in the ways networks and S3 do."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Literal

from botocore.session import Session

from pilothouse.adapters.blobs.s3 import S3, Bucket

NAME = "artifacts"
Mode = Literal["", "unavailable", "denied", "silent", "cut", "gone"]
_ANSWERS = {
    "unavailable": ("503 Slow Down", "SlowDown"),
    "denied": ("403 Forbidden", "AccessDenied"),
}


@dataclass
class Relay:
    """What is asked passes through, until `mode` says otherwise."""

    upstream: int
    mode: Mode = ""
    cut_after: int = 100_000
    """Bytes of a request, and of an answer, that pass before a connection is cut."""
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while True:
                first = await reader.read(65536)
                if not first or not await self._one(first, reader, writer):
                    break
        self._open.discard(writer)
        writer.close()

    async def _one(self, first: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if self.mode == "gone":
            self.failed.set()
            writer.transport.abort()
            return False
        if self.mode == "silent":
            self.failed.set()
            while await reader.read(65536):  # until the client has had enough
                pass
            return False
        if self.mode in _ANSWERS:
            status, code = _ANSWERS[self.mode]
            body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>".encode()
            head = f"HTTP/1.1 {status}\r\ncontent-type: application/xml\r\nconnection: close\r\n"
            writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
            await writer.drain()
            self.failed.set()
            return False
        there, back = await asyncio.open_connection("127.0.0.1", self.upstream)
        back.write(first)
        passing = asyncio.create_task(self._pass(reader, back, len(first), writer))
        try:
            answered = 0
            while data := await there.read(65536):
                answered += len(data)
                if self.mode == "cut" and answered > self.cut_after:
                    writer.transport.abort()
                    return False
                writer.write(data)
                await writer.drain()
        finally:
            passing.cancel()
            back.close()
        return False

    async def _pass(
        self, reader: asyncio.StreamReader, back: asyncio.StreamWriter, passed: int, writer: asyncio.StreamWriter
    ) -> None:
        while data := await reader.read(65536):
            passed += len(data)
            if self.mode == "cut" and passed > self.cut_after:
                self.failed.set()
                writer.transport.abort()
                back.transport.abort()
                return
            back.write(data)
            await back.drain()
        back.write_eof()


@dataclass
class House:
    relay: Relay
    client: object
    """botocore's own, past the relay: what is really there."""

    def bucket(self, prefix: str = "") -> Bucket:
        return Bucket(NAME, prefix, "eu-central-1", f"http://127.0.0.1:{self.relay.port}", "test", "test")

    def adapter(self, prefix: str = "", *, part: int = 5 * 1024 * 1024, read_s: float = 2.0) -> S3:
        return S3(self.bucket(prefix), part=part, read_s=read_s)


@contextlib.asynccontextmanager
async def housed() -> AsyncIterator[House]:
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0",
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    assert program.stderr is not None
    said = b""
    while (found := re.search(rb"http://127\.0\.0\.1:(\d+)", said)) is None:
        line = await program.stderr.readline()
        assert line, said.decode()
        said += line
    port = int(found[1])
    draining = asyncio.create_task(program.stderr.read())
    client = Session().create_client(
        "s3", region_name="eu-central-1", endpoint_url=f"http://127.0.0.1:{port}", aws_access_key_id="test",
        aws_secret_access_key="test",
    )  # fmt: skip
    place = {"LocationConstraint": "eu-central-1"}
    await asyncio.to_thread(client.create_bucket, Bucket=NAME, CreateBucketConfiguration=place)
    relay = Relay(port)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.port = server.sockets[0].getsockname()[1]
    try:
        yield House(relay, client)
    finally:
        server.close()
        for writer in list(relay._open):
            writer.transport.abort()
        client.close()
        os.killpg(program.pid, signal.SIGKILL)
        await program.wait()
        await draining
