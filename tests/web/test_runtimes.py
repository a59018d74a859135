"""The Shell API of AgentCore, as its clients speak it: every way to sign, ids, reattaching, being kicked, refusals."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote, urlencode

import pytest
import pytest_asyncio
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pilothouse.core.access import SCOPES, Scope
from pilothouse.core.errors import Unavailable
from pilothouse.engine.ports import SandboxSpec, SandboxState, StoreFailed
from pilothouse.web import runtimes
from pilothouse.web.runtimes import CONNECTION_S
from tests.core.signing import signed
from tests.engine.fakes import HandClock
from tests.issuer import FakeIssuer
from tests.security import raw
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
ARN = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/my_agent-AbCdEf1234"
SESSION = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
BEARER = "base64UrlBearerAuthorization"


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["hot", "plain"])
async def served(request: pytest.FixtureRequest) -> AsyncIterator[Served]:
    house = FakeIssuer()
    house.issuer = house.issuer.__class__(**{**_fields(house.issuer), "default_role": "operator"})
    async with serving(hot=request.param == "hot", houses=[house]) as running:
        running.house = house  # type: ignore[attr-defined]
        yield running


def _fields(thing: Any) -> dict[str, Any]:
    return {name: getattr(thing, name) for name in thing.__dataclass_fields__}


@pytest_asyncio.fixture(loop_scope="module")
async def pair(served: Served) -> tuple[str, str]:
    return await made(served)


async def made(served: Served, *scopes: Scope) -> tuple[str, str]:
    record, secret = await served.platform.pairs.create("test", scopes or SCOPES, account="local")
    return record.id, secret.secret_access_key


def fresh() -> str:
    return f"{time.time_ns():036d}"


def target(arn: str = ARN, **query: str) -> str:
    return f"/runtimes/{quote(arn, safe='')}/ws/shells" + (f"?{urlencode(query)}" if query else "")


async def attach(
    served: Served, pair: tuple[str, str], session: str | None, *, presigned: int | None = None, arn: str = ARN,
    **query: str,
) -> ClientConnection:  # fmt: skip
    headers: tuple[tuple[str, str], ...] = ()
    if session is not None and presigned is None:
        headers = ((SESSION, session),)
    elif session is not None:
        query[SESSION] = session
    request = signed("GET", served.url + target(arn, **query), headers, key=pair, now=time.time(), presigned=presigned)
    url = served.url.replace("http", "ws") + request.path + (f"?{request.query}" if request.query else "")
    given = [(n, v) for n, v in request.headers if n.lower() != "host"]
    return await connect(url, additional_headers=given, max_size=None, proxy=None)


class Client:
    """What AWS's clients do with a connection."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket
        self.out = b""
        self.statuses: list[dict[str, Any]] = []
        self.frames = 0
        self.last = b""

    async def more(self) -> None:
        message = await asyncio.wait_for(self.socket.recv(), 20)
        assert isinstance(message, bytes)
        assert 1 <= len(message) <= 65_536
        self.frames += 1
        self.last = message
        if message[0] == 1:
            self.out += message[1:]
        elif message[0] == 3:
            self.statuses.append(json.loads(message[1:]))
        else:
            assert message[0] in {2, 5, 0xFF}, message[:40]

    async def see(self, data: bytes) -> None:
        while data not in self.out:
            await self.more()

    async def status(self) -> dict[str, Any]:
        while not self.statuses:
            await self.more()
        return self.statuses.pop(0)

    async def type(self, data: bytes) -> None:
        await self.socket.send(b"\0" + data)

    async def end(self) -> int:
        try:
            while True:
                await self.more()
        except ConnectionClosed as end:
            assert end.rcvd is not None
            return end.rcvd.code


async def test_a_shell_by_headers_with_ids_status_size_heartbeat_and_exit(
    served: Served, pair: tuple[str, str]
) -> None:
    sid = fresh()
    client = Client(await attach(served, pair, sid, shellId="mine", qualifier="DEFAULT"))
    answer = client.socket.response
    assert answer is not None
    assert answer.headers[SESSION] == sid
    assert answer.headers["X-Amzn-Bedrock-AgentCore-Shell-Id"] == "mine"
    assert answer.headers["x-amzn-RequestId"]
    assert "sec-websocket-protocol" not in answer.headers
    assert "sec-websocket-extensions" not in answer.headers  # it was offered; limits are on what is sent
    assert await client.status() == {
        "kind": "Status", "apiVersion": "v1", "metadata": {"shellId": "mine", "reconnected": False},
        "status": "Success",
    }  # fmt: skip
    await client.socket.send(b'\x04{"width": 90, "height":30}')
    await client.type(b"stty size\n")
    await client.see(b"30 90")
    await client.socket.send(b"\x05beat")
    while client.frames and not client.statuses:
        message = await asyncio.wait_for(client.socket.recv(), 20)
        if message == b"\x05beat":
            break
    await client.type(b"exit 7\n")
    assert (await client.status())["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]
    assert await client.end() == 1000


async def test_whoever_reattaches_gets_the_replay_and_the_one_before_is_kicked(
    served: Served, pair: tuple[str, str]
) -> None:
    sid = fresh()
    one = Client(await attach(served, pair, sid, shellId="s"))
    await one.type(b"stty -echo; x=kept; echo fir''st\n")
    await one.see(b"first")
    two = Client(await attach(served, pair, sid, presigned=60, shellId="s"))
    assert await one.end() == 4000
    assert (await two.status())["metadata"] == {"shellId": "s", "reconnected": True}
    await two.see(b"first")
    await two.type(b"echo $x-$x\n")
    await two.see(b"kept-kept")
    await two.socket.close()  # detaches
    three = Client(await attach(served, pair, sid, shellId="s"))
    await three.type(b"echo $x+$x\n")
    await three.see(b"kept+kept")
    await three.type(b"head -c 2000000 /dev/zero | tr '\\0' z; echo; echo do''ne\n")
    await three.see(b"done")
    await three.socket.send(b"\xff")
    assert await three.end() == 1000
    four = Client(await attach(served, pair, sid, shellId="s"))
    assert (await four.status())["metadata"]["reconnected"] is False
    await four.socket.send(b"\xff")


async def test_two_who_claim_one_shell_at_the_same_instant_share_no_connection(
    served: Served, pair: tuple[str, str]
) -> None:
    sid = fresh()
    sockets = await asyncio.gather(*(attach(served, pair, sid, shellId="s") for _ in range(2)))
    clients = [Client(socket) for socket in sockets]
    for client in clients:
        await client.status()
    ends = [asyncio.create_task(client.end()) for client in clients]
    done, waiting = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert [task.result() for task in done] == [4000]
    (left,) = (c for c, task in zip(clients, ends, strict=True) if task in waiting)
    await left.socket.send(b"\xff")
    assert await waiting.pop() == 1000


@pytest.mark.parametrize("how", ["header", "subprotocol"])
async def test_a_signed_token_is_taken_from_header_and_subprotocol(served: Served, how: str) -> None:
    now = int(time.time())
    token = served.house.token(iat=now, exp=now + 600)  # type: ignore[attr-defined]
    url = served.url.replace("http", "ws") + target(**{SESSION: fresh(), "shellId": "t"})
    if how == "header":
        socket = await connect(url, additional_headers={"authorization": f"Bearer {token}"}, proxy=None)
        assert socket.subprotocol is None
    else:
        offered = f"{BEARER}.{base64.urlsafe_b64encode(token.encode()).rstrip(b'=').decode()}"
        socket = await connect(url, subprotocols=[offered, BEARER], proxy=None)  # type: ignore[list-item]
        assert socket.subprotocol == BEARER
    client = Client(socket)
    assert (await client.status())["metadata"]["shellId"] == "t"
    await socket.send(b"\xff")
    assert await client.end() == 1000


async def test_host_twice_and_an_arn_that_is_not_encoded(served: Served, pair: tuple[str, str]) -> None:
    """The first is what AWS's Python client sends, the second what its browser sample does."""
    key = await served.key()
    host = f"127.0.0.1:{served.port}"
    for path in (target(), target().replace("%3A", ":").replace("%2F", "/"), "/runtimes/my_agent-AbCdEf1234/ws/shells"):
        request = raw.upgrade(path, {"host": host, "x-api-key": key})
        request = request.replace(b"host:", f"host: {host}\r\nHost:".encode(), 1)
        answer = await raw.exchange(served.url, request)
        assert raw.status(answer) == 101, answer[:300]
        assert b"-shell-id: " in answer.lower()
        assert b'"reconnected":false' in answer
    foreign = raw.upgrade(target(), {"host": host, "x-api-key": key}).replace(b"host:", b"host: evil\r\nHost:", 1)
    assert raw.status(await raw.exchange(served.url, foreign)) == 421


async def test_the_subprotocol_of_signing_clients_is_said_yes_to(served: Served, pair: tuple[str, str]) -> None:
    query = {SESSION: fresh(), "shellId": "s"}
    request = signed("GET", served.url + target(**query), (), key=pair, now=time.time(), presigned=60)
    url = f"{served.url.replace('http', 'ws')}{request.path}?{request.query}"
    offered: Any = ["something.else", "v1.command.agentcore.aws.dev"]
    socket = await connect(url, subprotocols=offered, proxy=None)
    assert socket.subprotocol == "v1.command.agentcore.aws.dev"
    await socket.send(b"\xff")


async def test_a_connection_ends_after_its_time_and_the_next_has_its_own(
    served: Served, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sid = fresh()
    monkeypatch.setattr(runtimes, "CONNECTION_S", 0.2)
    one = Client(await attach(served, pair, sid, shellId="s"))
    assert await one.end() == 1008
    monkeypatch.setattr(runtimes, "CONNECTION_S", 3600.0)
    two = Client(await attach(served, pair, sid, shellId="s"))
    assert (await two.status())["metadata"] == {"shellId": "s", "reconnected": True}
    await two.socket.send(b"\xff")
    assert await two.end() == 1000


async def refusal(served: Served, pair: tuple[str, str], session: str | None = "", **how: Any) -> tuple[int, str, str]:
    with pytest.raises(InvalidStatus) as refused:
        await attach(served, pair, fresh() if session == "" else session, **how)
    answer = refused.value.response
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-amzn-RequestId"]
    return answer.status_code, answer.headers["x-amzn-ErrorType"], json.loads(answer.body or b"")["message"]


async def test_refusals_are_those_of_the_service(served: Served, pair: tuple[str, str]) -> None:
    short = await refusal(served, pair, "x" * 32)
    assert short[:2] == (400, "ValidationException")
    assert short[2].endswith("Member must have length greater than or equal to 33")
    for wrong in ("x" * 257, "x" * 40 + " y"):
        assert (await refusal(served, pair, wrong))[:2] == (400, "ValidationException")
    for shell in ("-x", "", "a" * 129, "ä", "a/b"):
        assert (await refusal(served, pair, shellId=shell))[:2] == (400, "ValidationException"), shell
    assert (await refusal(served, pair, qualifier="PROD"))[:2] == (404, "ResourceNotFoundException")
    for arn in ("arn:aws:s3:us-west-2:123456789012:runtime/x", "../x", ARN + "/runtime-endpoint/x", "a b", "x" * 300):
        assert (await refusal(served, pair, arn=arn))[:2] == (404, "ResourceNotFoundException"), arn
    assert (await refusal(served, (pair[0], "x" * 40)))[:2] == (403, "AccessDeniedException")
    for scope in ("read", "run"):
        assert (await refusal(served, await made(served, scope)))[:2] == (403, "AccessDeniedException")
    many = {f"x{n}": "1" for n in range(101)}
    assert (await refusal(served, pair, **many))[:2] == (400, "ValidationException")
    with pytest.raises(InvalidStatus) as refused:
        await connect(served.url.replace("http", "ws") + target(), proxy=None)
    assert refused.value.response.status_code == 401
    assert refused.value.response.headers["www-authenticate"] == 'Bearer realm="pilothouse"'
    with pytest.raises(InvalidStatus) as refused:
        await connect(
            served.url.replace("http", "ws") + target(),
            additional_headers={"cookie": f"pilothouse={await served.cookie()}", "origin": served.url},
            proxy=None,
        )
    assert refused.value.response.status_code == 401  # cookies are not read here


async def test_a_sandbox_that_cannot_be_opened_is_a_runtime_that_cannot_start(
    served: Served, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served.sandboxes, "refuse", Unavailable("no sandbox today"))
    assert await refusal(served, pair) == (424, "RuntimeClientError", "no sandbox today")


async def test_a_session_is_named_once_and_where_a_signature_covers_it(served: Served, pair: tuple[str, str]) -> None:
    key, sid = await served.key(), fresh()
    host = f"127.0.0.1:{served.port}"
    once = raw.upgrade(target(), {"host": host, "x-api-key": key, SESSION: sid})
    twice = once.replace(b"x-api-key:", f"{SESSION}: {fresh()}\r\nx-api-key:".encode(), 1)
    both = once.replace(b"/ws/shells ", f"/ws/shells?{SESSION}={fresh()} ".encode(), 1)
    assert [raw.status(await raw.exchange(served.url, request)) for request in (once, twice, both)] == [101, 400, 400]
    request = signed("GET", served.url + target(shellId="s"), (), key=pair, now=time.time(), presigned=60)
    added = raw.upgrade(f"{request.path}?{request.query}", {"host": host, SESSION: sid})
    assert raw.status(await raw.exchange(served.url, added)) == 400


async def test_the_id_of_a_session_that_is_not_one_s_to_see_is_a_word_like_any_other(
    served: Served, pair: tuple[str, str]
) -> None:
    session = await served.platform.sessions.create(owner="local")
    sid = session.live.record.id
    mine = Client(await attach(served, pair, sid, shellId="s"))
    assert (await mine.status())["metadata"]["reconnected"] is False
    await served.platform.sessions.shelf.share(session, private=True)
    for organisation in ("default", "another"):
        if organisation != "default":
            await served.identity.members.make(organisation, None)
        await served.identity.members.put(organisation, "nosy", role="operator")
        record, secret = await served.platform.pairs.create("other", SCOPES, account="nosy", organisation=organisation)
        nosy = Client(await attach(served, (record.id, secret.secret_access_key), sid, shellId="s"))
        assert (await nosy.status())["metadata"]["reconnected"] is False
        await nosy.socket.send(b"\xff")
        assert await nosy.end() == 1000
    await mine.type(b"echo st''ill\n")
    await mine.see(b"still")
    await mine.socket.send(b"\xff")


async def test_who_is_in_a_session_that_is_stopped_does_not_begin_it_anew(
    served: Served, pair: tuple[str, str]
) -> None:
    session = await served.platform.sessions.create(owner="local")
    one = Client(await attach(served, pair, session.live.record.id, shellId="s"))
    await one.status()
    await served.platform.sessions.stop(session)
    assert await one.end() == 1000
    assert one.last == b"\xff"


async def test_a_store_that_does_not_answer_is_the_server_s_fault(
    served: Served, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def get(kind: str, key: str) -> bytes | None:
        raise StoreFailed("full")

    monkeypatch.setattr(served.platform.kit.store, "get", get)
    assert (await refusal(served, pair))[:2] == (500, "InternalServerException")


async def test_the_eleventh_shell_is_refused_and_a_session_is_its_caller_s_own(
    served: Served, pair: tuple[str, str]
) -> None:
    sid = fresh()
    clients = [Client(await attach(served, pair, sid, shellId=f"s{n}")) for n in range(10)]
    assert (await refusal(served, pair, sid, shellId="s10"))[:2] == (429, "ServiceQuotaExceededException")
    await served.identity.members.put("default", "somebody-else", role="operator")
    record, secret = await served.platform.pairs.create("other", SCOPES, account="somebody-else")
    stranger = Client(await attach(served, (record.id, secret.secret_access_key), sid, shellId="s0"))
    assert (await stranger.status())["metadata"]["reconnected"] is False
    await stranger.socket.send(b"\xff")
    for client in clients:
        await client.socket.send(b"\xff")
        assert await client.end() == 1000


async def test_who_is_told_to_come_back_while_a_session_opens_does_not_break_off_its_opening(
    served: Served, pair: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sid, broken, may_open = fresh(), [], asyncio.Event()
    usual = served.sandboxes.open

    async def long(spec: SandboxSpec) -> SandboxState:
        try:
            await may_open.wait()
        except asyncio.CancelledError:
            broken.append(spec.session)
            raise
        return await usual(spec)

    monkeypatch.setattr(served.sandboxes, "open", long)
    monkeypatch.setattr(runtimes, "OPEN_S", 0.2)
    assert (await refusal(served, pair, sid, shellId="s"))[:2] == (409, "RetryableConflictException")
    monkeypatch.setattr(runtimes, "OPEN_S", 8.0)
    coming = asyncio.create_task(attach(served, pair, sid, shellId="s"))
    may_open.set()
    client = Client(await coming)
    assert (await client.status())["metadata"]["shellId"] == "s"
    await client.type(b"echo he''re\n")
    await client.see(b"here")
    await client.socket.send(b"\xff")
    assert await client.end() == 1000
    assert not broken


@pytest.mark.parametrize(
    ("messages", "code"),
    [
        (["text"] * 5, 1003),
        ([b"\0" + b"x" * 65_537], 1009),
        ([b"\x05"] * 251, 1008),
        ([b'\x10{"type":"take"}'] * 5, 1003),
    ],
    ids=["text", "oversize", "rate", "ours alone"],
)
async def test_what_breaks_the_rules_closes_and_the_shell_lives(
    served: Served, pair: tuple[str, str], messages: list[bytes | str], code: int
) -> None:
    sid = fresh()
    one = Client(await attach(served, pair, sid, shellId="s"))
    await one.type(b"x=kept; echo rea''dy\n")
    await one.see(b"ready")
    await one.socket.send("one text message is ignored")
    await one.type(b"echo st''ill\n")
    await one.see(b"still")
    for message in messages:
        await one.socket.send(message)
    assert await one.end() == code
    two = Client(await attach(served, pair, sid, shellId="s"))
    await two.type(b"echo $x-$x\n")
    await two.see(b"kept-kept")
    await two.socket.send(b"\xff")
    assert await two.end() == 1000


async def test_the_server_s_end_and_the_credential_s_are_told_in_words_that_clients_know(
    served: Served, pair: tuple[str, str]
) -> None:
    mine = await made(served)
    one = Client(await attach(served, mine, fresh()))
    two = Client(await attach(served, pair, fresh()))
    await one.status()
    await two.status()
    await served.platform.pairs.revoke(mine[0])
    assert await one.end() == 1008
    served.hub.all_away()
    assert await two.end() == 1001


@pytest.mark.parametrize("hot", [True, False], ids=["hot", "plain"])
async def test_a_connection_lives_an_hour_and_the_next_one_another(hot: bool) -> None:
    clock = HandClock(time.time())  # shells know when they were started by the host's
    async with serving(hot=hot, clock=clock) as served:
        address, headers = target(**{SESSION: fresh(), "shellId": "s"}), {"x-api-key": await served.key()}

        async def come() -> Client:
            url = served.url.replace("http", "ws") + address
            return Client(await connect(url, additional_headers=headers, max_size=None, proxy=None))

        one = await come()
        await one.type(b"x=kept; echo rea''dy\n")
        await one.see(b"ready")
        for word in (b"first", b"second"):
            await clock.wind(CONNECTION_S - 1)
            await one.type(b"echo $x-%b\n" % word)
            await one.see(b"kept-%b" % word)
            await clock.wind(1)
            assert await one.end() == 1008
            one = await come()
            assert (await one.status())["metadata"]["reconnected"] is True
        await one.socket.send(b"\xff")
        assert await one.end() == 1000
