"""The whole server with one good client in it, to whom nothing may happen, and many that are made of bytes.

What is wrong is an `AssertionError`: a record in the log above `WARNING` or with a traceback, something that the event
loop was told of, silence, an answer that no table has, anything of a connection that is still there after it.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gc
import json
import logging
from collections.abc import AsyncIterator, Coroutine, Sequence
from typing import Any, TypeVar

import websockets
from websockets.asyncio.client import ClientConnection

from pilothouse.adapters.hooks.python import PythonHook
from pilothouse.core.authorizer import Terms
from pilothouse.core.channels import channel
from pilothouse.core.namespaces import Namespace
from pilothouse.core.publish import Event
from pilothouse.engine.authorizer import Authorizer
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.handlers import Handlers
from pilothouse.engine.hooks import Bounded
from pilothouse.engine.ports import EventStore
from tests.fuzz import rules
from tests.fuzz.cases import KEY, SESSION, Opening, Packet, Post
from tests.security import raw
from tests.web.serving import Served, serving

T = TypeVar("T")
NAMESPACES = (
    Namespace("default"),
    Namespace("kept", history=20, replay=2, history_bytes=100_000),
    Namespace("lobby", presence=True, history=3),
    Namespace("asked", on_publish="asked", on_subscribe="asked"),
    Namespace("told", on_publish="told", on_subscribe="told", invoke="EVENT"),
    Namespace("closed", subscribe="approve", publish="admin", wildcards="none"),
    Namespace("session", on_publish="told"),
    Namespace("dialog", on_subscribe="asked"),
)
SILENCE_S = 10.0
LOOKS = 100
"""In that time. They are counted, and not the seconds: a process that was stopped meanwhile has not been silent."""
LAST = "the-last-one"
CANARY = "canary"


async def asked(event: Any, context: Any) -> Any:
    """Answers what the first event tells it to."""
    if event["events"] is None:
        return None
    given = event["events"][0]["payload"]
    wanted = given.get("answer") if isinstance(given, dict) else None
    if not isinstance(wanted, dict):
        return {"events": event["events"]} if wanted is None else wanted
    if "raise" in wanted:
        raise ValueError("as it was told")
    if "exit" in wanted:
        raise SystemExit(1)
    if "large" in wanted:
        return {"events": [{"id": event["events"][0]["id"], "payload": "x" * 250_000}]}
    if "never" in wanted:
        await asyncio.sleep(60)
    text = json.dumps(wanted).replace('"ID"', json.dumps(event["events"][0]["id"]))
    return json.loads(text)


async def told(event: Any, context: Any) -> None:
    return None


async def doorkeeper(event: Any, context: Any) -> Any:
    return {"isAuthorized": event["authorizationToken"].startswith("yes"), "ttlOverride": 1}


async def _within(work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    for _ in range(LOOKS):
        done, _ = await asyncio.wait({task}, timeout=SILENCE_S / LOOKS)
        if done:
            return task.result()
    task.cancel()
    raise AssertionError("neither an answer nor an end")


class House:
    def __init__(self, served: Served, key: str, session: str, good: ClientConnection) -> None:
        self._served = served
        self._key = key
        self._session = session
        self._good = good
        self._said = 0
        self.wrong: list[str] = []

    def _real(self, data: bytes) -> bytes:
        return data.replace(KEY.encode(), self._key.encode()).replace(SESSION.encode(), self._session.encode())

    # --- one case ---

    async def connection(self, opening: Opening, packets: Sequence[Packet]) -> None:
        """One connection from its upgrade to its end."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._served.port)
        try:
            await _within(self._talk(reader, writer, opening, packets))
        except (asyncio.IncompleteReadError, *raw.CLOSED):
            pass  # it hung up on what is no WebSocket
        finally:
            writer.transport.abort()
        await self.settle()

    async def _talk(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, opening: Opening, packets: Sequence[Packet]
    ) -> None:
        writer.write(self._upgrade(opening))
        head = await reader.readuntil(b"\r\n\r\n")
        status = raw.status(head)
        if status != 101:
            assert status in {400, 403, 404, 421, 426, 431}, head
            return
        last = Packet(json.dumps({"type": "unsubscribe", "id": LAST}).encode())
        with contextlib.suppress(*raw.CLOSED):
            for packet in (*packets, last):
                writer.write(self._packet(packet))
            await writer.drain()
        await self._hear(reader, {int.from_bytes(p.payload[:2], "big") for p in packets if p.opcode == 8})

    def _upgrade(self, opening: Opening) -> bytes:
        headers: list[tuple[str, str]] = [("host", f"127.0.0.1:{self._served.port}")]
        shown = self._real(json.dumps(opening.shown).encode())
        offer = opening.offer.replace("HEADERS", base64.urlsafe_b64encode(shown).rstrip(b"=").decode())
        if opening.offer:
            headers.append(("sec-websocket-protocol", offer))
        if "HEADERS" not in opening.offer and isinstance(opening.shown, dict):
            given = json.loads(shown)
            texts = [(n, v) for n, v in given.items() if isinstance(v, str) and v.isascii() and v.isprintable()]
            headers += [(name, value) for name, value in texts if name.isascii()]
        lines = raw.upgrade(opening.path, {}).removesuffix(b"\r\n")
        for name, value in (*headers, *opening.extra):
            lines += f"{name}: ".encode() + self._real(value.encode("latin-1")) + b"\r\n"
        return lines + b"\r\n"

    def _packet(self, packet: Packet) -> bytes:
        real = self._real(packet.payload)
        whole = Packet(real, packet.opcode, packet.fin, packet.rsv, packet.masked, packet.claims)
        return whole.encode()

    async def _hear(self, reader: asyncio.StreamReader, given: set[int]) -> None:
        """Up to the answer to the last frame, or an end that says why."""
        while True:
            first, size = await reader.readexactly(2)
            if size >= 126:
                size = int.from_bytes(await reader.readexactly(2 if size == 126 else 8), "big")
            payload = await reader.readexactly(size)
            opcode = first & 15
            assert first & 0xF0 == 0x80, "in one piece, and nothing reserved"
            if opcode == 8:
                assert not payload or rules.closing(int.from_bytes(payload[:2], "big"), given), payload
                return
            if opcode != 1:
                continue
            said = rules.frame(payload)
            if said.get("id") == LAST and said["type"] == "unsubscribe_error":
                return

    async def post(self, post: Post) -> None:
        real = self._real(post.body)
        lines = [b"POST /event HTTP/1.1", f"host: 127.0.0.1:{self._served.port}".encode(), b"connection: close"]
        lines += [f"{name}: ".encode() + self._real(value.encode("latin-1")) for name, value in post.headers]
        if post.chunked:
            lines.append(b"transfer-encoding: chunked")
            real = b"%x\r\n%b\r\n0\r\n\r\n" % (len(real), real) if real else b"0\r\n\r\n"
        else:
            lines.append(b"content-length: %d" % max(len(real) + post.lie, 0))
        reader, writer = await asyncio.open_connection("127.0.0.1", self._served.port)
        try:
            writer.write(b"\r\n".join([*lines, b"", real]))
            if post.lie and not post.chunked:
                writer.write_eof()
            answer = await _within(reader.read())
            answer = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
            if b"\r\n\r\n" not in answer:
                assert post.lie, "only who said more or less than was told may hear nothing"
                return
            head, _, body = answer.partition(b"\r\n\r\n")
            pairs = [line.decode("latin-1").split(": ", 1) for line in head.split(b"\r\n")[1:]]
            headers = {name.lower(): value for name, value in pairs}
            rules.published(raw.status(answer), headers, body)
        except raw.CLOSED:
            pass
        finally:
            writer.transport.abort()
        await self.settle()

    # --- what holds after each ---

    async def settle(self) -> None:
        """Nothing was noted, nothing is left, and the good client still gets its own and nothing else."""
        assert not self.wrong, self.wrong
        self._said += 1
        channels = self._served.platform.channels
        assert channels is not None
        await channels.publish("default", channel("canary/a"), [Event.of(b"%d" % self._said)])
        heard = json.loads(await _within(self._good.recv()))
        while heard["type"] == "ka":
            heard = json.loads(await _within(self._good.recv()))
        assert heard == {"type": "data", "id": CANARY, "event": str(self._said)}
        for _ in range(400):
            if not (left := self.left()):
                return
            await asyncio.sleep(0.005)
        raise AssertionError(f"still there: {left}")

    def left(self) -> dict[str, object]:
        """What the server holds beside the good client. Empty it should be."""
        platform = self._served.platform
        channels, dialogs = platform.channels, platform.dialogs
        assert channels is not None
        assert dialogs is not None
        held: dict[str, Any] = {
            "feeds": [path for _, path in channels._feeds if path != "/canary/a"],
            "presence": channels.presences._of,
            "keys": channels.once._words,
            "watches": dialogs._watches,
            "ahead": dialogs._pending,
            "waiting": dialogs._waiting,
            "open": sum(platform.gate._open.values()) - 1,
            "knocking": +platform.gate._knocking,
            "hub": sum(map(len, self._served.hub._open.values())) - 1,
        }
        return {name: what for name, what in held.items() if what}


class _Watch(logging.Handler):
    def __init__(self, wrong: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._wrong = wrong

    def emit(self, record: logging.LogRecord) -> None:
        if record.getMessage() == "Invalid UTF-8 sequence received from client.":
            return  # so uvicorn says that it closes with 1007
        if record.levelno >= logging.ERROR or record.exc_info:
            self._wrong.append(self.format(record))


@contextlib.asynccontextmanager
async def house(*, hot: bool, store: EventStore | None = None) -> AsyncIterator[House]:
    hooks = {"asked": Bounded(PythonHook("asked", asked), 0.5), "told": Bounded(PythonHook("told", told), 0.5)}
    handlers = Handlers(hooks)
    authorizer = Authorizer(Bounded(PythonHook("doorkeeper", doorkeeper), 0.5), SystemClock(), Terms())
    namespaces = (*NAMESPACES, Namespace("canary"))
    async with serving(hot=hot, store=store, namespaces=namespaces, handlers=handlers, authorizer=authorizer) as served:
        key = await served.key()
        session = await served.platform.sessions.create(owner="local", organisation="default", agent="echo")
        address = f"ws://127.0.0.1:{served.port}/event/realtime"
        async with websockets.connect(address, additional_headers={"x-api-key": key}) as good:
            one = House(served, key, session.live.record.id, good)
            said = {"type": "subscribe", "id": CANARY, "channel": "canary/a", "authorization": {"x-api-key": key}}
            await good.send(json.dumps(said))
            assert json.loads(await good.recv())["type"] == "subscribe_success"
            watch, loop = _Watch(one.wrong), asyncio.get_running_loop()
            before = loop.get_exception_handler()
            loop.set_exception_handler(lambda _, context: one.wrong.append(f"the loop was told: {context}"))
            logging.getLogger().addHandler(watch)
            try:
                yield one
                gc.collect()  # tasks whose failure nobody asked for say so when they go
                await asyncio.sleep(0)
                assert not one.wrong, one.wrong
            finally:
                logging.getLogger().removeHandler(watch)
                loop.set_exception_handler(before)
        await handlers.close()
