"""What a request brings to be known by: each kind counts, none is passed over for another, two are refused; and the
role that the account has now limits it, whatever it is."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from pilothouse.core import chat
from pilothouse.core.access import SCOPES
from pilothouse.core.bucket import Rates
from pilothouse.core.errors import BadRequest
from pilothouse.engine import gate as gates
from pilothouse.engine import keypairs, keys
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.sessions import Session
from pilothouse.web import wire
from pilothouse.web.guard import COOKIE
from tests.core.signing import Request, signed
from tests.issuer import FakeIssuer
from tests.security import raw
from tests.web.serving import Served, serving

pytestmark = pytest.mark.asyncio(loop_scope="module")
SHARED = pytest_asyncio.fixture(scope="module", loop_scope="module")
HOUSE = FakeIssuer()


@dataclass
class Brought:
    """Good headers of each kind, bad ones of each kind."""

    good: dict[str, tuple[str, str]]
    bad: dict[str, tuple[str, str]]
    request: Request


@SHARED
async def served() -> AsyncIterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setattr(gates, "WRONG", Rates(1e3, 1_000_000, 0))  # wrong credentials are what is tried here
    async with serving(houses=[HOUSE]) as running:
        yield running
    patch.undo()


async def brought(served: Served) -> Brought:
    now = int(time.time())
    record, secret = await served.platform.pairs.create("test", SCOPES, account="local")
    request = signed("GET", served.url + "/api/me", key=(record.id, secret.secret_access_key), now=now)
    signature, key = request.of("authorization"), await served.key()
    token = HOUSE.token(iat=now, exp=now + 600)
    good = {
        "key": ("x-api-key", key),
        "bearer key": ("authorization", f"Bearer {key}"),
        "token": ("authorization", f"Bearer {token}"),
        "signature": ("authorization", signature),
    }
    bad = {
        "key": ("x-api-key", "ph_" + "0" * 12 + "_" + "x" * 43),
        "empty key": ("x-api-key", ""),
        "bearer key": ("authorization", "Bearer nothing"),
        "token": ("authorization", f"Bearer {token[:-4]}AAAA"),
        "signature": ("authorization", signature[:-64] + "0" * 64),
        "bare token": ("authorization", token),
        "other scheme": ("authorization", f"Token {key}"),
        "tab": ("authorization", f"Bearer\t{key}"),
    }
    return Brought(good, bad, request.header("authorization", None))


async def status(served: Served, request: Request, *headers: tuple[str, str]) -> int:
    every = (*request.headers, *headers, ("connection", "close"))
    lines = ["GET /api/me HTTP/1.1", *(f"{name}: {value}" for name, value in every), "", ""]
    return raw.status(await raw.exchange(served.url, "\r\n".join(lines).encode("latin-1")))


async def test_c11_each_counts_alone_and_a_cookie_beside_it_is_not_looked_at(served: Served) -> None:
    found = await brought(served)
    wrong, right = ("cookie", f"{COOKIE}=wrong"), ("cookie", f"{COOKIE}={await served.cookie()}")
    assert await status(served, found.request, right) == 200
    for kind, header in found.good.items():
        assert await status(served, found.request, header) == 200, kind
        assert await status(served, found.request, header, wrong) == 200, kind
    for kind, header in found.bad.items():
        assert await status(served, found.request, header, right) == 401, f"{kind} passed over for the cookie"


async def test_what_a_proxy_in_front_asked_for_is_not_meant_for_us(served: Served) -> None:
    """Browsers go on sending it."""
    found = await brought(served)
    right, basic = ("cookie", f"{COOKIE}={await served.cookie()}"), ("authorization", "Basic eDp4")
    assert await status(served, found.request, basic, right) == 200
    assert await status(served, found.request, basic) == 401


async def test_a_site_that_is_said_twice_is_another(served: Served) -> None:
    found = await brought(served)
    right, site = ("cookie", f"{COOKIE}={await served.cookie()}"), ("sec-fetch-site", "same-origin")
    assert await status(served, found.request, right, site) == 200
    assert await status(served, found.request, right, site, ("sec-fetch-site", "cross-site")) == 403


async def test_c13_an_organisation_fills_its_own_shelf_alone(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    members, identity = served.identity.members, served.identity
    for name in ("red", "blue"):
        await members.make(name, None)
        await members.put(name, "boss", role="admin")
    monkeypatch.setattr(keys, "KEYS_MAX", 2)
    monkeypatch.setattr(keypairs, "PAIRS_MAX", 2)
    for make in (identity.keys.create, served.platform.pairs.create):
        for _ in range(2):
            await make("theirs", ("read",), account="boss", organisation="red")
        with pytest.raises(BadRequest, match="organisation has 2 key"):
            await make("theirs", ("read",), account="boss", organisation="red")
        await make("ours", ("read",), account="boss", organisation="blue")


async def test_c11_two_in_one_request_are_refused(served: Served) -> None:
    """Also the same one twice: whoever stands between may have looked at the other."""
    found = await brought(served)
    for one, other in itertools.product(found.good.values(), found.good.values()):
        assert await status(served, found.request, one, other) == 401, (one, other)


# --- what the account may now ---


@dataclass
class Ann:
    """One account with a credential of every kind, each of which would allow everything."""

    served: Served
    subject: str
    account: str
    pair: tuple[str, str]
    headers: dict[str, tuple[tuple[str, str], ...]]

    def token(self, since: int = 0, *groups: str) -> tuple[tuple[str, str], ...]:
        now = int(time.time())
        text = HOUSE.token(sub=self.subject, iat=now + since, exp=now + 600, groups=list(groups))
        return (("authorization", f"Bearer {text}"),)

    def signed(self, path: str, method: str = "GET", body: bytes = b"") -> tuple[tuple[str, str], ...]:
        given = (("content-type", "application/json"),) if body else ()
        return signed(method, self.served.url + path, given, body, key=self.pair, now=int(time.time())).headers

    def every(self, path: str = "/api/me") -> dict[str, tuple[tuple[str, str], ...]]:
        host = ("host", f"127.0.0.1:{self.served.port}")
        return {k: (host, *h) for k, h in self.headers.items()} | {"key pair": self.signed(path)}

    async def me(self, headers: tuple[tuple[str, str], ...]) -> dict[str, Any]:
        lines = ["GET /api/me HTTP/1.1", *(f"{n}: {v}" for n, v in headers), "connection: close", "", ""]
        answer = await raw.exchange(self.served.url, "\r\n".join(lines).encode("latin-1"))
        found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
        return found.get("principal", {}) if raw.status(answer) == 200 else {"status": raw.status(answer)}

    async def scopes(self) -> dict[str, frozenset[str]]:
        return {kind: frozenset((await self.me(h)).get("scopes", ())) for kind, h in self.every().items()}


async def made(served: Served, subject: str) -> Ann:
    """Comes by a token of an admin's group: a member by that alone."""
    ann = Ann(served, subject, "", ("", ""), {})
    first = ann.token(-30, "boss")
    host = ("host", f"127.0.0.1:{served.port}")
    ann.account = (await ann.me((host, *first)))["account"]
    _, key = await served.identity.keys.create("ann", SCOPES, account=ann.account)
    record, secret = await served.platform.pairs.create("ann", SCOPES, account=ann.account)
    cookie = await served.identity.redeem((await served.identity.ticket(ann.account))[0])
    ann.pair = (record.id, secret.secret_access_key)
    ann.headers = {
        "token": first,
        "key": (("x-api-key", key),),
        "sign-in": (("cookie", f"{COOKIE}={cookie}"), ("origin", served.url)),
    }
    return ann


async def test_c11_the_role_of_the_account_limits_whatever_is_shown(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    ann, members = await made(served, "eve"), served.identity.members
    assert set((await ann.scopes()).values()) == {frozenset(SCOPES)}
    await members.put("default", ann.account, role="viewer")
    assert set((await ann.scopes()).values()) == {frozenset({"read"})}, "the token of before brings nothing back"
    monkeypatch.setattr(SystemClock, "now", lambda clock: time.time() + 100)
    newer = ann.every()["token"][:1] + ann.token(65, "ops")
    assert (await ann.me(newer))["role"] == "operator", "what the issuer said later counts"
    assert set((await ann.scopes()).values()) == {frozenset({"read", "run"})}
    less = ann.every()["token"][:1] + ann.token(70)
    assert (await ann.me(less))["scopes"] == ["read"]
    assert set((await ann.scopes()).values()) == {frozenset({"read"})}, "also when it is less"


async def test_c12_whoever_is_disabled_or_removed_is_nobody_by_whatever_is_shown(served: Served) -> None:
    for how in ("disabled", "removed"):
        ann, members = await made(served, how), served.identity.members
        async with contextlib.AsyncExitStack() as stack:
            sockets = {}
            for kind, headers in ann.every("/ws").items():
                given = [(n, v) for n, v in headers if n.lower() != "host"]
                sockets[kind] = await stack.enter_async_context(
                    connect(served.socket_url, additional_headers=given, compression=None)
                )
            if how == "disabled":
                await members.put("default", ann.account, disabled=True)
                assert {(await ann.me(h)).get("status") for h in ann.every().values()} == {401}
                assert (await ann.me(ann.every()["token"][:1] + ann.token(5, "boss"))).get("status") == 401
            else:
                await members.remove("default", ann.account)
                assert {(await ann.me(h)).get("status") for k, h in ann.every().items() if k != "token"} == {401}
            for kind, socket in sockets.items():
                with pytest.raises(ConnectionClosed):
                    await asyncio.wait_for(socket.recv(), 20)
                assert socket.close_code == chat.CLOSE_SIGN_IN, (how, kind)


# --- a body that takes its time ---


@SHARED
async def patient() -> AsyncIterator[Served]:
    """Where this address has shown nothing wrong yet."""
    async with serving(houses=[HOUSE]) as running:
        yield running


LATE = ("POST", "PUT", "PATCH", "DELETE")


@dataclass
class Late:
    """Changes by every kind of credential, whose bodies lack one byte: none of them has been answered."""

    ann: Ann
    session: Session
    asking: dict[tuple[str, str], tuple[asyncio.StreamReader, asyncio.StreamWriter]]

    @classmethod
    async def begin(cls, ann: Ann, session: Session, monkeypatch: pytest.MonkeyPatch) -> Late:
        made, reading, read = cls(ann, session, {}), [], wire.read

        async def watched(*given: Any) -> bytes:
            reading.append(given)
            return await read(*given)

        monkeypatch.setattr(wire, "read", watched)
        for method in LATE:
            path, body = made.change(method)
            for kind, headers in ann.every().items():
                if kind == "key pair":
                    headers = ann.signed(path, method, body)
                elif method == "DELETE":
                    continue  # nobody waits for its body, which no handler reads: a signature alone is about it
                elif kind == "sign-in":
                    headers = (*headers, ("x-csrf-token", made.csrf()))
                made.asking[kind, method] = await made.ask(method, path, headers, body)
        async with asyncio.timeout(10):
            while len(reading) < len(made.asking):
                await asyncio.sleep(0.005)
        return made

    def csrf(self) -> str:
        return self.ann.served.identity.csrf(self.ann.headers["sign-in"][0][1].removeprefix(f"{COOKIE}="))

    def change(self, method: str) -> tuple[str, bytes]:
        path, body = {
            "POST": ("/api/keys", {"name": "late"}),
            "PUT": ("/api/members/late", {"role": "admin"}),
            "PATCH": (f"/api/sessions/{self.session.live.record.id}", {"title": "late"}),
            "DELETE": ("/api/members/victim", {}),
        }[method]
        return path, json.dumps(body).encode()

    async def ask(
        self, method: str, path: str, headers: tuple[tuple[str, str], ...], body: bytes
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        streams = await asyncio.open_connection("127.0.0.1", self.ann.served.port)
        every = {"content-type": "application/json"} | {n.lower(): v for n, v in headers}
        every |= {"content-length": str(len(body)), "connection": "close"}
        streams[1].write(raw.plain(method, path, every) + body[:-1])
        return streams

    async def end(self) -> dict[tuple[str, str], int]:
        """The last byte of each; what the answers are."""
        found = {}
        for asked, (reader, writer) in self.asking.items():
            writer.write(b"}")
            found[asked] = raw.status(await asyncio.wait_for(reader.read(), 10))
            writer.close()
        return found

    async def done(self) -> set[str]:
        """Which of the changes have been made."""
        identity = self.ann.served.identity
        accounts = [member.account for member in identity.members.all("default")]
        seen = {
            "POST": "late" in [key.name for key in await identity.keys.all()],
            "PUT": "late" in accounts,
            "PATCH": self.session.live.record.title == "late",
            "DELETE": "victim" not in accounts,
        }
        return {method for method, made in seen.items() if made}


async def ended(ann: Ann) -> None:
    identity, shown = ann.served.identity, {kind: headers[0][1] for kind, headers in ann.headers.items()}
    await identity.keys.revoke(shown["key"].split("_")[1])
    await identity.sign_out(shown["sign-in"].removeprefix(f"{COOKIE}="))
    await ann.served.platform.pairs.revoke(ann.pair[0])


HOW: dict[str, tuple[int, Callable[[Ann], Awaitable[object]]]] = {
    "revoked": (401, ended),
    "removed": (401, lambda ann: ann.served.identity.members.remove("default", ann.account)),
    "disabled": (401, lambda ann: ann.served.identity.members.put("default", ann.account, disabled=True)),
    "demoted": (403, lambda ann: ann.served.identity.members.put("default", ann.account, role="viewer")),
}


@pytest.mark.parametrize("how", HOW)
async def test_c12_what_is_asked_by_a_body_that_comes_after_the_end_is_not_done(
    patient: Served, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever may no longer has the rest of a body to send: for as long as bodies may take, that would be a way."""
    await patient.identity.members.put("default", "victim", role="viewer")
    session = await patient.platform.sessions.create(owner="local", agent="echo")
    ann = await made(patient, f"late-{how}")
    late = await Late.begin(ann, session, monkeypatch)
    if how == "revoked":  # a token has an end and nobody who could revoke it
        for asked in [asked for asked in late.asking if asked[0] == "token"]:
            late.asking.pop(asked)[1].close()
    status, act = HOW[how]
    await act(ann)
    assert await late.end() == dict.fromkeys(late.asking, status)
    assert await late.done() == set()


async def test_c12_a_body_that_comes_late_is_taken_from_whoever_still_may(
    patient: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other side of it: by every kind of credential and of change, and what is read twice is there twice."""
    await patient.identity.members.put("default", "victim", role="viewer")
    session = await patient.platform.sessions.create(owner="local", agent="echo")
    late = await Late.begin(await made(patient, "late"), session, monkeypatch)
    answers = await late.end()
    assert set(answers.values()) <= {200, 201, 204}
    assert len(answers) == 13
    assert await late.done() == set(LATE)
    await patient.identity.members.remove("default", "late")
    for key in await patient.identity.keys.all():
        if key.name == "late":
            await patient.identity.keys.revoke(key.id)


# --- what an issuer's clock says ---


async def test_c12_a_token_that_is_dated_ahead_does_not_undo_what_an_admin_says(served: Served) -> None:
    """Its role counted before; it is not newer than the admin's word because its issuer's clock is fast."""
    ann, members = await made(served, "fast"), served.identity.members
    ahead = ann.every()["token"][:1] + ann.token(45, "boss")
    assert (await ann.me(ahead))["role"] == "admin"
    await members.put("default", ann.account, role="viewer")
    assert (await ann.me(ahead))["role"] == "viewer"
    assert set((await ann.scopes()).values()) == {frozenset({"read"})}
