"""A raw client of the link, free to misbehave, and a real runner process on a unix socket."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp

from pilothouse.core import link

Json = dict[str, Any]
PATIENCE = 60.0
"""A test that waits longer has hung."""


class Client:
    """One connection. Acknowledges what it reads unless told not to."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, *, acking: bool = True) -> None:
        self.socket = socket
        self.acking = acking
        self.hello: Json = {}
        self.events: list[tuple[int, Json]] = []
        self.done: dict[str, str] = {}
        self._assembler = link.Assembler()
        self._count = 0
        self._looked = 0

    async def greet(self, fence: int = 1, acked: int = 0, **more: Any) -> Json:
        self.hello = (await self.next())["hello"]
        await self.send({"attach": {"proto": 1, "acked": acked, "fence": fence, **more}})
        return self.hello

    async def send(self, message: Json) -> None:
        self._count += 1
        for frame in link.split(json.dumps(message).encode(), f"c{self._count}"):
            await self.socket.send_str(frame.decode())

    async def command(self, type: str, id: str, **fields: Any) -> None:
        await self.send({"cmd": {"id": id, "type": type, **fields}})

    async def next(self) -> Json:
        async with asyncio.timeout(PATIENCE):
            while True:
                frame = await self.socket.receive()
                assert frame.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), (
                    f"link ended: {self.socket.close_code} {frame.extra}"
                )
                raw = frame.data.encode() if isinstance(frame.data, str) else frame.data
                assert len(raw) <= link.MESSAGE_MAX
                whole = self._assembler.feed(raw)
                assert not isinstance(whole, link.Broken), whole
                if whole is None:
                    continue
                message: Json = json.loads(whole)
                if "n" in message:
                    checked = link.parse_event(json.dumps(message["ev"]).encode())
                    assert not isinstance(checked, link.Broken), (checked, message["ev"])
                    self.events.append((message["n"], message["ev"]))
                    if self.acking:
                        await self.send({"ack": message["n"]})
                elif "done" in message:
                    self.done[message["done"]] = message.get("error", "")
                return message

    async def event(self, type: str, **fields: Any) -> Json:
        """The next event of a type, with these fields, after the one that this returned last."""
        return await self.some(type, **fields)

    async def some(self, *types: str, **fields: Any) -> Json:
        while True:
            while self._looked == len(self.events):
                await self.next()
            found = self.events[self._looked][1]
            self._looked += 1
            if found["type"] in types and all(found.get(key) == value for key, value in fields.items()):
                return dict(found)

    async def answered(self, id: str) -> str:
        """The error of a command, empty when it went well."""
        while id not in self.done:
            await self.next()
        return self.done[id]

    async def run(self, id: str, message: str, **fields: Any) -> Json:
        """Prompt and wait for the turn's end."""
        await self.command("prompt", id, message=message, **fields)
        return await self.event("turn_ended", turnId=id)

    async def answer(self, ask: Json, behavior: str = "allow", **fields: Any) -> None:
        await self.command(
            "permission_answer", f"a-{ask['requestId']}", requestId=ask["requestId"], behavior=behavior, **fields
        )

    def text(self) -> str:
        """What a viewer would read: the stream with what was taken back left out."""
        messages: dict[str, str] = {}
        for _, event in self.events:
            if event["type"] == "stream":
                messages[event["messageId"]] = messages.get(event["messageId"], "") + event["content"]
            elif event["type"] == "stream_reset":
                messages.pop(event["messageId"], None)
        return "".join(messages.values())

    def of(self, type: str) -> list[Json]:
        return [event for _, event in self.events if event["type"] == type]

    async def closed(self) -> int | None:
        """Reads to the end; the close code."""
        async with asyncio.timeout(PATIENCE):
            while True:
                frame = await self.socket.receive()
                if frame.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    return self.socket.close_code


class Runner:
    """A real runner process."""

    def __init__(self, path: Path, process: asyncio.subprocess.Process, http: aiohttp.ClientSession) -> None:
        self.path = path
        self.process = process
        self.http = http

    @asynccontextmanager
    async def connect(self, *, acking: bool = True) -> AsyncIterator[Client]:
        async with self.http.ws_connect("http://runner/ws", max_msg_size=0) as socket:
            yield Client(socket, acking=acking)

    @asynccontextmanager
    async def attach(self, fence: int = 1, acked: int = 0, *, acking: bool = True) -> AsyncIterator[Client]:
        async with self.connect(acking=acking) as client:
            await client.greet(fence, acked)
            yield client

    async def ping(self) -> Json:
        async with self.http.get("http://runner/ping") as response:
            assert response.status == 200
            found: Json = await response.json()
            return found


@asynccontextmanager
async def running(
    home: Path, agent: str = "echo", *, env: dict[str, str] | None = None, args: tuple[str, ...] = ()
) -> AsyncIterator[Runner]:
    """A runner with an empty workspace at `home/w`, ended at the end."""
    workspace, path = home / "w", home / f"s{uuid.uuid4().hex[:8]}"
    workspace.mkdir(exist_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    # Bound by a relative name: pytest's directories can be longer than a socket's path may be.
    path = _bind(listener, path)
    listener.listen()
    listener.set_inheritable(True)
    fd = listener.fileno()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "pilothouse.runner", "--fd", str(fd), "--agent", agent),
        *("--workspace", str(workspace), *args),
        pass_fds=(fd,),
        env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONPATH": os.pathsep.join(sys.path), **(env or {})},
        stderr=(home / "log").open("ab"),
    )
    listener.close()
    try:
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as http:
            yield Runner(path, process, http)
    finally:
        if process.returncode is None:
            process.terminate()
            async with asyncio.timeout(PATIENCE):
                await process.wait()


def _bind(listener: socket.socket, path: Path) -> Path:
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    short = Path(f"/proc/{os.getpid()}/fd/{directory}/{path.name}")
    listener.bind(str(short))
    return short


async def until(true: Callable[[], bool]) -> None:
    """Waits for a condition that some other task brings about."""
    async with asyncio.timeout(PATIENCE):
        while not true():
            await asyncio.sleep(0.01)
