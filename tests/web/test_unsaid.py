"""What nobody may read later: no credential of the event API in a log, a line of the access log, the audit, the store
or an answer, wherever it was shown; and none is taken from an address."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import pytest

from pilothouse.adapters.hooks.python import PythonHook
from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core import bearer
from pilothouse.core.authorizer import Terms
from pilothouse.core.namespaces import Namespace
from pilothouse.engine.authorizer import Authorizer
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.handlers import Handlers
from pilothouse.engine.hooks import Bounded
from pilothouse.web.access import AccessLog
from tests.fuzz.cases import Packet
from tests.security import raw
from tests.web.serving import Served, serving


class Lines:
    def __init__(self) -> None:
        self.said: list[str] = []

    def info(self, event: str, /, **fields: Any) -> None:
        self.said.append(f"{event} {fields}")


HEARD: list[Any] = []


async def listens(event: Any, context: Any) -> Any:
    HEARD.append(event)
    raise RuntimeError("it fails, and is noted")


async def says_no(event: Any, context: Any) -> Any:
    HEARD.append({**event, "authorizationToken": ""})
    return {"isAuthorized": False}


@pytest.fixture(params=["hot", "plain"])
async def everything(request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Any]:
    caplog.set_level(logging.WARNING)  # what the server itself logs of its libraries
    lines, noted, store = Lines(), list[str](), MemoryStore()

    def note(what: str, /, **fields: object) -> None:
        noted.append(f"{what} {fields}")

    HEARD.clear()
    handlers = Handlers({"listens": Bounded(PythonHook("listens", listens), note=note)}, note)
    authorizer = Authorizer(Bounded(PythonHook("no", says_no), note=note), SystemClock(), Terms())
    namespaces = [Namespace("default"), Namespace("odd", on_publish="listens", on_subscribe="listens")]
    async with serving(
        hot=request.param == "hot", store=store, log=AccessLog(lines), handlers=handlers, namespaces=namespaces,
        authorizer=authorizer,
    ) as served:  # fmt: skip

        async def all_of_it() -> str:
            audit = await served.platform.kit.audit.after("default", 0, 1000)
            kept = [doc for _, doc in store._docs.values()]
            return "\n".join([caplog.text, *lines.said, *noted, repr(audit), repr(kept)])

        yield served, all_of_it
    await handlers.close()


async def exchange(served: Served, target: str, headers: dict[str, str], *frames: Any) -> bytes:
    """An upgrade and what is said after it; everything that comes back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    try:
        writer.write(raw.upgrade(target, {"host": f"127.0.0.1:{served.port}"} | headers))
        answer = await reader.readuntil(b"\r\n\r\n")
        if raw.status(answer) != 101:
            return answer
        writer.write(b"".join(Packet(json.dumps(frame).encode()).encode() for frame in frames))
        last = {"type": "unsubscribe", "id": "the-last-one"}
        writer.write(Packet(json.dumps(last).encode()).encode())
        async with asyncio.timeout(20):
            while b"the-last-one" not in answer and b"connection_error" not in answer:
                piece = await reader.read(65536)
                if not piece:
                    break
                answer += piece
        return answer
    finally:
        writer.transport.abort()


async def test_c10_no_credential_is_said_again_wherever_it_was_shown(everything: Any) -> None:
    served, all_of_it = everything
    good, wrong = await served.key(), "ph_000000000000_" + "w" * 43
    custom = "a-custom-token-of-somebody-" + "c" * 30
    secrets, heard = [good, wrong, custom], b""
    every = {"x-api-key": good}, {"x-api-key": wrong}, {"authorization": custom}, {"authorization": f"Bearer {good}"}
    for shown in every:
        offered = bearer.encoded(json.dumps(shown))
        secrets.append(offered)
        frames = [
            {"type": "subscribe", "id": "s", "channel": "odd/a", "authorization": shown},
            {"type": "publish", "id": "p", "channel": "odd/a", "events": ["1"], "authorization": shown},
            {"type": "publish", "id": "q", "channel": "nowhere/a", "events": ["1"], "authorization": shown},
        ]
        offer = {"sec-websocket-protocol": f"aws-appsync-event-ws, header-{offered}"}
        heard += await exchange(served, "/event/realtime", offer, *frames)
        heard += await exchange(served, "/event/realtime", shown, *frames)
        heard += await exchange(served, f"/event/realtime?header={offered}&payload=e30", {}, *frames)
        for channel in ("odd/a", "nowhere/a", "default/*"):
            body = json.dumps({"channel": channel, "events": ["1"]}).encode()
            head = raw.plain("POST", f"/event?key={wrong}", {"host": f"127.0.0.1:{served.port}", **shown})
            size = b"content-length: %d\r\n\r\n" % len(body)
            heard += await raw.exchange(served.url, head.removesuffix(b"\r\n") + size + body)
    await served.platform.kit.audit.flush(every=True)
    written = await all_of_it()
    assert "upgrade" in written
    assert "hook_failed" in written
    assert "credential.refuse" in written
    for secret in secrets:
        assert secret not in written, secret[:20]
        assert secret.encode() not in heard, "nor in an answer"
    told = json.dumps(HEARD)
    assert custom in told, "the user's code knows its own"
    assert [one for one in (good, wrong, *secrets[3:]) if one in told] == []


async def test_c10_an_address_carries_no_credential(everything: Any) -> None:
    served, _ = everything
    key = await served.key()
    offered = bearer.encoded(json.dumps({"x-api-key": key}))
    init = {"type": "connection_init"}
    for query in (f"header={offered}&payload=e30", f"x-api-key={key}", f"token={key}", f"authorization=Bearer%20{key}"):
        answer = await exchange(served, f"/event/realtime?{query}", {}, init)
        assert b"UnauthorizedException" in answer
        assert b"connection_ack" not in answer
        body = b'{"channel":"default/a","events":["1"]}'
        head = raw.plain("POST", f"/event?{query}", {"host": f"127.0.0.1:{served.port}"}).removesuffix(b"\r\n")
        answer = await raw.exchange(served.url, head + b"content-length: %d\r\n\r\n" % len(body) + body)
        assert raw.status(answer) == 401
