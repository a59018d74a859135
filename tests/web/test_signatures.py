"""Signed requests on real sockets: what clients of AWS send is taken wherever a key is, and nothing else passes."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
import pytest_asyncio
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from pilothouse.core import chat, proof
from pilothouse.core.access import SCOPES, Scope
from pilothouse.core.errors import BadSignature
from pilothouse.web.guard import COOKIE, LOOPBACK, Guard, MisdirectedHost, Trust
from pilothouse.web.wire import BODY_MAX
from tests.core.signing import Request, signed
from tests.security import raw
from tests.web.serving import Served, serving
from tests.web.test_routes import PROTECTED, address, name

pytestmark = pytest.mark.asyncio(loop_scope="module")
SHARED = pytest_asyncio.fixture(scope="module", loop_scope="module")


@SHARED
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@SHARED
async def pair(served: Served) -> tuple[str, str]:
    return await made(served)


async def made(served: Served, *scopes: Scope, **how: Any) -> tuple[str, str]:
    record, secret = await served.platform.pairs.create("test", scopes or SCOPES, account="local", **how)
    return record.id, secret.secret_access_key


def sign(served: Served, pair: tuple[str, str], method: str, target: str, **how: Any) -> Request:
    return signed(method, served.url + target, key=pair, now=time.time(), **how)


async def send(served: Served, request: Request) -> tuple[int, dict[str, Any]]:
    """Byte by byte as it is: no library mends it."""
    target = request.path + (f"?{request.query}" if request.query else "")
    lines = [f"{request.method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in request.headers)]
    lines += [f"content-length: {len(request.body)}"] if request.body else []
    head = "\r\n".join([*lines, "connection: close", "", ""]).encode("latin-1")
    answer = await raw.exchange(served.url, head + request.body)
    body = answer.partition(b"\r\n\r\n")[2]
    try:
        return raw.status(answer), json.loads(body)
    except ValueError:
        return raw.status(answer), {}


def body_for(method: str) -> dict[str, Any]:
    return {"headers": (("content-type", "application/json"),), "body": b"{}"} if method != "GET" else {}


@pytest.mark.parametrize("entry", [one for one in PROTECTED if one.own is None], ids=name)
async def test_a_signed_request_is_taken_wherever_a_key_is(served: Served, pair: tuple[str, str], entry: Any) -> None:
    request = sign(served, pair, entry.method, address(entry), **body_for(entry.method))
    assert (await send(served, request))[0] not in {401, 403}
    forged = request.header("authorization", request.of("authorization")[:-64] + "0" * 64)
    code, problem = await send(served, forged)
    assert (code, problem["code"], problem["reason"]) == (401, "bad_signature", "mismatch")
    others = [s for s in SCOPES if s != entry.scope]
    less = sign(served, await made(served, *others), entry.method, address(entry), **body_for(entry.method))
    assert (await send(served, less))[0] == 403


@pytest.mark.parametrize("service", ["bedrock-agentcore", "appsync"])
async def test_who_one_is(served: Served, service: str) -> None:
    id, secret = await made(served, "read")
    code, me = await send(served, sign(served, (id, secret), "GET", "/api/me", service=service))
    assert (code, me["csrf"]) == (200, None)
    account = {"account": "local", "organisation": "default", "role": "admin"}
    assert me["principal"] == {"kind": "key", "id": id, "name": "test", "scopes": ["read"], **account}


# --- clients that people have ---


async def curl(served: Served, pair: tuple[str, str], *arguments: str, service: str = "bedrock-agentcore") -> Any:
    child = await asyncio.create_subprocess_exec(
        "curl", "-s", "--noproxy", "*", "--aws-sigv4", f"aws:amz:us-east-1:{service}", "-K", "-", *arguments,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, _ = await child.communicate(f'user = "{pair[0]}:{pair[1]}"\n'.encode())
    return json.loads(out)


async def test_curl(served: Served, pair: tuple[str, str]) -> None:
    me = await curl(served, pair, f"{served.url}/api/me")
    assert me["principal"]["id"] == pair[0]
    assert (await curl(served, pair, f"{served.url}/api/sessions?limit=5&cursor={uuid.UUID(int=0)}"))[
        "items"
    ] is not None
    json_body = ("-H", "content-type: application/json", "-d", '{"title":"grüße"}')
    assert (await curl(served, pair, f"{served.url}/api/sessions", *json_body))["title"] == "grüße"
    wrong = await curl(served, (pair[0], "x" * 40), f"{served.url}/api/me")
    assert (wrong["code"], wrong["reason"]) == ("bad_signature", "mismatch")
    assert (await curl(served, pair, f"{served.url}/api/me", service="s3"))["reason"] in {"scope", "mismatch"}


async def ask(served: Served, request: Request) -> tuple[int, Any]:
    """With urllib, as people who sign with botocore do."""
    url = served.url + request.path + (f"?{request.query}" if request.query else "")
    asked = urllib.request.Request(url, request.body or None, dict(request.headers), method=request.method)
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def work() -> tuple[int, Any]:
        try:
            with opener.open(asked, timeout=15) as answer:
                return answer.status, json.loads(answer.read() or b"null")
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    return await asyncio.to_thread(work)


async def test_botocore_and_urllib(served: Served, pair: tuple[str, str]) -> None:
    body = '{"title":"日本"}'.encode()
    media = (("content-type", "application/json"),)
    for headers in (media, (*media, ("x-amz-content-sha256", proof.digest(body)))):
        code, session = await ask(served, sign(served, pair, "POST", "/api/sessions", headers=headers, body=body))
        assert (code, session["title"]) == (201, "日本")
        one = sign(served, pair, "GET", f"/api/sessions/{session['id']}/events?after=0&limit=3")
        assert (await ask(served, one))[0] == 200
        gone = sign(served, pair, "DELETE", f"/api/sessions/{session['id']}")
        assert (await ask(served, gone))[0] == 204
    presigned = sign(served, pair, "GET", "/api/sessions?limit=7", presigned=60)
    code, listed = await ask(served, replace(presigned, headers=()))
    assert (code, set(listed)) == (200, {"items", "next"})
    other = replace(presigned, query=presigned.query.replace("limit=7", "limit=8"), headers=())
    assert (await ask(served, other))[0] == 401


async def test_a_session_token(served: Served) -> None:
    record, secret = await served.platform.pairs.create("test", SCOPES, account="local", token=True)
    mine = (record.id, secret.secret_access_key)
    for presigned in (None, 60):
        with_token = sign(served, mine, "GET", "/api/me", token=secret.session_token, presigned=presigned)
        assert (await send(served, with_token))[0] == 200
        for token in (None, "another"):
            code, problem = await send(served, sign(served, mine, "GET", "/api/me", token=token, presigned=presigned))
            assert (code, problem["reason"]) == (401, "token")


# --- clients that people should not have ---


async def test_a_body_that_was_not_signed_changes_nothing(served: Served, pair: tuple[str, str]) -> None:
    made = len(await served.platform.kit.store.scan("session"))
    body, media = b'{"title":"good"}', (("content-type", "application/json"),)
    for headers in (media, (*media, ("x-amz-content-sha256", proof.digest(body)))):
        request = sign(served, pair, "POST", "/api/sessions", headers=headers, body=body)
        code, problem = await send(served, replace(request, body=b'{"title":"evil"}'))
        assert (code, problem["reason"]) == (401, "payload" if len(headers) == 2 else "mismatch")
        assert (await send(served, replace(request, body=b"")))[0] == 401
    assert len(await served.platform.kit.store.scan("session")) == made


async def test_a_body_is_read_only_for_a_signature_that_may_stand_and_within_bounds(
    served: Served, pair: tuple[str, str]
) -> None:
    """The answer comes although the body does not."""
    media = (("content-type", "application/json"),)
    length = ("content-length", str(BODY_MAX + 1))
    for request, expected in (
        (sign(served, pair, "POST", "/api/sessions", headers=media), 413),
        (sign(served, ("PHKA" + "A" * 16, "x"), "POST", "/api/sessions", headers=media), 401),
        (sign(served, pair, "POST", "/api/sessions", headers=media, service="s3"), 401),
        (sign(served, (pair[0], "x"), "POST", "/api/sessions",
              headers=(*media, ("x-amz-content-sha256", proof.EMPTY))), 401),
    ):  # fmt: skip
        assert (await send(served, replace(request, headers=(*request.headers, length))))[0] == expected
    chunked = sign(served, pair, "POST", "/api/sessions", headers=(*media, ("transfer-encoding", "chunked")))
    chunks = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    head = "\r\n".join(["POST /api/sessions HTTP/1.1", *(f"{n}: {v}" for n, v in chunked.headers), "", ""]).encode()
    assert raw.status(await raw.exchange(served.url, head + chunks * 5)) == 413


async def test_two_credentials_are_none(served: Served, pair: tuple[str, str]) -> None:
    request = sign(served, pair, "GET", "/api/me")
    presigned = sign(served, pair, "GET", "/api/me", presigned=60)
    key, cookie = await served.key(), await served.cookie()
    bearer = ("authorization", f"Bearer {key}")
    authorization = ("authorization", request.of("authorization"))
    for headers in (
        (*request.headers, authorization),
        (*request.headers, bearer),
        (bearer, *request.headers),
        (*request.headers, ("x-api-key", key)),
    ):
        code, problem = await send(served, replace(request, headers=headers))
        assert (code, problem["code"], problem["reason"]) == (401, "bad_signature", "malformed")
    for mixed in (
        replace(request, query=presigned.query),
        replace(presigned, headers=(*presigned.headers, bearer)),
        replace(presigned, headers=(*presigned.headers, ("x-api-key", key))),
    ):
        assert (await send(served, mixed))[0] == 401
    forged = request.header("authorization", request.of("authorization")[:-64] + "0" * 64)
    assert (await send(served, forged.header("cookie", f"{COOKIE}={cookie}")))[0] == 401, "not passed over"
    half = replace(presigned, query="X-Amz-Signature=" + "0" * 64).header("cookie", f"{COOKIE}={cookie}")
    assert (await send(served, half))[0] == 401


async def test_headers_out_of_all_proportion(served: Served, pair: tuple[str, str]) -> None:
    request = sign(served, pair, "GET", "/api/me")
    long = request.header("authorization", request.of("authorization") + "," * 70_000)
    code, problem = await send(served, long)
    assert code in {400, 401, 431}
    assert code != 401 or "longer" in problem["detail"]
    filler = sign(served, pair, "GET", "/api/me", headers=(("x-long", "y" * 70_000),))
    assert (await send(served, filler))[0] in {200, 400, 431}
    assert (await send(served, request))[0] == 200


@pytest.mark.parametrize(("age", "presigned", "reason"), [
    (0, None, None), (290, None, None), (310, None, "expired"), (-310, None, "early"), (0, 1, None), (5, 1, "expired"),
])  # fmt: skip
async def test_a_request_may_be_repeated_within_its_time_alone(
    served: Served, pair: tuple[str, str], age: float, presigned: int | None, reason: str | None
) -> None:
    request = signed("GET", f"{served.url}/api/me", key=pair, now=time.time() - age, presigned=presigned)
    for _ in range(2):
        code, problem = await send(served, request)
        assert (code, problem.get("reason")) == ((200, None) if reason is None else (401, reason))


async def test_no_answer_tells_a_signature_or_a_secret(served: Served, pair: tuple[str, str]) -> None:
    request = sign(served, pair, "GET", "/api/me")
    right = request.of("authorization")[-64:]
    for wrong in (
        request.header("authorization", request.of("authorization")[:-64] + "0" * 64),
        request.header("x-amz-date", "20200101T000000Z"),
        replace(request, path="/api/keys"),
    ):
        _, problem = await send(served, wrong)
        assert right not in json.dumps(problem)
        assert pair[1] not in json.dumps(problem)


async def test_a_page_of_another_origin_needs_to_be_allowed() -> None:
    trust = Trust(hosts=LOOPBACK, cors_origins=frozenset({"https://app.example"}))
    async with serving(trust=trust) as served:
        pair = await made(served)
        request = sign(served, pair, "GET", "/api/me")
        assert (await send(served, request.header("origin", "https://app.example")))[0] == 200
        assert (await send(served, request.header("origin", "https://evil.example")))[0] == 403
        assert (await send(served, request.header("host", "evil.example")))[0] == 421


# --- sockets ---


def handshake(served: Served, pair: tuple[str, str], **how: Any) -> tuple[str, dict[str, str]]:
    request = sign(served, pair, "GET", "/ws", **how)
    headers = {n: v for n, v in request.headers if n.lower() != "host"}
    return served.socket_url + (f"?{request.query}" if request.query else ""), headers


@pytest.mark.parametrize("hot", [True, False])
@pytest.mark.parametrize("presigned", [None, 60])
async def test_a_socket_is_opened_by_a_signature_and_closed_with_its_pair(hot: bool, presigned: int | None) -> None:
    async with serving(hot=hot) as served:
        pair, other = await made(served), await made(served)
        url, headers = handshake(served, pair, presigned=presigned)
        async with connect(url, additional_headers=headers, proxy=None) as socket:
            await socket.send('{"type":"ping"}')
            assert json.loads(await socket.recv()) == {"type": "pong"}
            await served.platform.pairs.revoke(other[0])
            await socket.send('{"type":"ping"}')
            assert json.loads(await socket.recv()) == {"type": "pong"}
            await served.platform.pairs.revoke(pair[0])
            with pytest.raises(ConnectionClosed) as closed:
                await socket.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == chat.CLOSE_SIGN_IN
        for again in (handshake(served, pair, presigned=presigned), handshake(served, (other[0], "x"))):
            with pytest.raises(InvalidStatus) as refusal:
                await connect(again[0], additional_headers=again[1], proxy=None)
            assert refusal.value.response.status_code == 401


async def test_a_stream_ends_with_the_pair_that_asked_for_it(served: Served) -> None:
    pair = await made(served)
    _, session = await send(served, sign(served, pair, "POST", "/api/sessions", **body_for("POST")))
    request = sign(served, pair, "GET", f"/api/sessions/{session['id']}/events")
    headers = dict(request.headers) | {"accept": "text/event-stream"}
    async with (
        httpx.AsyncClient(timeout=15) as http,
        http.stream("GET", served.url + request.path, headers=headers) as stream,
    ):
        assert stream.status_code == 200
        await served.platform.pairs.revoke(pair[0])
        async for _ in stream.aiter_bytes():
            pass


async def test_a_signature_for_another_address_opens_no_socket(served: Served, pair: tuple[str, str]) -> None:
    request = sign(served, pair, "GET", "/api/me")
    headers = {n: v for n, v in request.headers if n.lower() != "host"}
    with pytest.raises(InvalidStatus) as refusal:
        await connect(served.socket_url, additional_headers=headers, proxy=None)
    assert refusal.value.response.status_code == 401


# --- frames of the event API ---


async def test_a_frame_is_signed_for_this_server_and_service(served: Served, pair: tuple[str, str]) -> None:
    guard = Guard(served.identity, lambda: Trust(hosts=LOOPBACK), pairs=served.platform.pairs)
    payload = {"channel": "/default/room"}
    body = json.dumps(payload, separators=(",", ":")).encode()

    def frame(url: str, **how: Any) -> dict[str, str]:
        given: dict[str, Any] = {"service": "appsync", "key": pair, "now": time.time()}
        return dict(signed("POST", f"{url}/event", body=body, **(given | how)).headers)

    who = await guard.signed_event(frame(served.url), "/event", payload)
    assert who.credential == f"sigv4:{pair[0]}"
    with pytest.raises(MisdirectedHost):
        await guard.signed_event(frame("http://evil.example"), "/event", payload)
    for wrong, path, said in (
        (frame(served.url, service="bedrock-agentcore"), "/event", payload),
        (frame(served.url), "/event/realtime", payload),
        (frame(served.url), "/event", payload | {"channel": "/default/other"}),
        (frame(served.url, key=(pair[0], "x")), "/event", payload),
        ({}, "/event", payload),
    ):
        with pytest.raises(BadSignature):
            await guard.signed_event(wrong, path, said)
    with pytest.raises(BadSignature, match="not taken"):
        await Guard(served.identity, lambda: Trust(hosts=LOOPBACK)).signed_event(frame(served.url), "/event", payload)


# --- making and ending them ---


async def test_key_pairs_are_made_shown_once_listed_and_revoked(served: Served) -> None:
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key()}) as http:
        wish = {"kind": "sigv4", "name": "ci", "scopes": ["read"], "expiresInS": 3600, "sessionToken": True}
        answer = await http.post("/api/keys", json=wish)
        shown = answer.json()
        assert answer.status_code == 201
        assert shown["kind"] == "sigv4"
        assert shown["id"] == shown["accessKeyId"]
        pair = (shown["accessKeyId"], shown["secretAccessKey"])
        assert (await send(served, sign(served, pair, "GET", "/api/me", token=shown["sessionToken"])))[0] == 200
        text = (await http.get("/api/keys")).text
        for secret in (shown["secretAccessKey"], shown["sessionToken"], "sealed"):
            assert secret not in text
        [listed] = [item for item in json.loads(text)["items"] if item["id"] == pair[0]]
        assert set(listed) == {"id", "kind", "name", "account", "scopes", "createdAt", "expiresAt", "lastUsedAt"}
        assert {item["kind"] for item in json.loads(text)["items"]} == {"key", "sigv4"}
        assert (await http.delete(f"/api/keys/{pair[0]}")).status_code == 204
        assert (await http.delete(f"/api/keys/{pair[0]}")).status_code == 404
        assert (await send(served, sign(served, pair, "GET", "/api/me", token=shown["sessionToken"])))[0] == 401


@pytest.mark.parametrize(("wish", "named"), [
    ({"kind": "rsa"}, "kind"),
    ({"kind": "sigv4", "scopes": ["root"]}, "scopes"),
    ({"kind": "sigv4", "name": "a\nb"}, "name"),
    ({"kind": "sigv4", "expiresInS": 1}, "expiresInS"),
    ({"kind": "sigv4", "expiresInS": "soon"}, "expiresInS"),
    ({"expiresInS": 3600}, "expiresInS"),
    ({"sessionToken": True}, "sessionToken"),
])  # fmt: skip
async def test_bad_wishes_are_refused_by_name(served: Served, wish: dict[str, Any], named: str) -> None:
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key()}) as http:
        before = len((await http.get("/api/keys")).json()["items"])
        answer = await http.post("/api/keys", json=wish)
        assert answer.status_code == 400
        assert named in answer.json()["detail"]
        assert len((await http.get("/api/keys")).json()["items"]) == before
