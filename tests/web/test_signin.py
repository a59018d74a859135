"""Signing in with a provider: one browser, one provider, one answer, once; and seeing and ending sign-ins."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from pilothouse.engine.identity import Identity
from pilothouse.engine.members import AHEAD_S
from pilothouse.engine.providers import BEGUN_S
from pilothouse.engine.signins import OWN_MAX, SignIn, decode
from pilothouse.web.guard import COOKIE
from pilothouse.web.signin import BEGUN
from tests.clock import HandClock
from tests.issuer import NOW, FakeIssuer, ec_key
from tests.web.serving import Served, serving

FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
BEGIN = "/api/signin/oidc/example"


@pytest.fixture
def house() -> FakeIssuer:
    return FakeIssuer()


class Still(HandClock):
    """Stands still while the engine's chores sleep."""

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@pytest.fixture
def clock() -> HandClock:
    return Still(NOW)


@pytest.fixture
def other() -> FakeIssuer:
    return FakeIssuer("https://two.example", "two")


@pytest.fixture
async def served(house: FakeIssuer, other: FakeIssuer, clock: HandClock) -> AsyncIterator[Served]:
    async with serving(houses=[house, other], clock=clock) as running:
        yield running


def browser(served: Served) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=served.url, headers={"user-agent": FIREFOX}, timeout=10)


async def begin(client: httpx.AsyncClient, path: str = BEGIN) -> tuple[str, dict[str, str]]:
    """Where the browser is sent, and with what."""
    answer = await client.get(path)
    assert answer.status_code == 303, answer.text
    location = answer.headers["location"]
    return location, dict(parse_qsl(urlsplit(location).query))


async def signed_in(client: httpx.AsyncClient, house: FakeIssuer, **claims: Any) -> httpx.Response:
    location, sent = await begin(client)
    code = house.consent(location, **claims)
    return await client.get(f"{BEGIN}/callback", params={"code": code, "state": sent["state"]})


async def me(client: httpx.AsyncClient) -> dict[str, Any]:
    answer = await client.get("/api/me")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def changes(served: Served, csrf: str) -> dict[str, str]:
    return {"origin": served.url, "x-csrf-token": csrf}


async def test_the_page_is_told_the_providers(served: Served) -> None:
    async with browser(served) as client:
        listed = (await client.get("/api/signin/providers")).json()
        assert listed == {"items": [{"id": "example", "label": "The example"}, {"id": "two", "label": "The two"}]}
    async with serving() as plain, browser(plain) as client:
        assert (await client.get("/api/signin/providers")).json() == {"items": []}
        assert (await client.get(BEGIN)).status_code == 404


async def test_a_person_signs_in(served: Served, house: FakeIssuer) -> None:
    async with browser(served) as client:
        location, sent = await begin(client)
        assert location.startswith("https://issuer.example/authorize?")
        assert sent["redirect_uri"] == f"{served.url}{BEGIN}/callback"
        assert (sent["client_id"], sent["scope"]) == ("pilothouse-page", "openid profile email")
        begun = client.cookies.get(BEGUN)
        assert begun is not None
        assert begun not in location
        code = house.consent(location, name="Ann", groups=["ops"])
        answer = await client.get(f"{BEGIN}/callback", params={"code": code, "state": sent["state"]})
        assert answer.status_code == 200
        assert '<meta http-equiv="refresh" content="0;url=../../../../">' in answer.text
        cookies = answer.headers.get_list("set-cookie")
        mine = next(one for one in cookies if one.startswith(f"{COOKIE}="))
        assert "HttpOnly" in mine
        assert "samesite=strict" in mine.lower()
        assert "Max-Age=43200" in mine
        assert BEGUN not in client.cookies
        for secret in (code, sent["state"], begun):
            assert secret not in answer.text
        found = await me(client)
        assert (found["principal"]["name"], found["principal"]["scopes"]) == ("Ann", ["read", "run"])


async def test_a_sign_in_ends_at_its_time(served: Served, house: FakeIssuer, clock: HandClock) -> None:
    async with browser(served) as client:
        await signed_in(client, house)
        clock.seconds += 43_199
        await me(client)
        clock.seconds += 2
        assert (await client.get("/api/me")).status_code == 401


async def refused(served: Served, client: httpx.AsyncClient, status: int, path: str, **query: Any) -> str:
    """The answer signs nobody in, is a page, and repeats nothing."""
    answer = await client.get(path, params=query)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"].startswith("text/html")
    assert COOKIE not in client.cookies
    assert await served.platform.kit.store.scan("signin") == []
    for value in [value for value in query.values() if value != "access_denied"]:
        for one in value if isinstance(value, list) else [value]:
            assert not one or len(one) < 8 or one not in answer.text
    return answer.text


async def test_c14_an_answer_counts_in_the_browser_that_began_alone(served: Served, house: FakeIssuer) -> None:
    """Login CSRF: somebody's own answer, given to another's browser, would sign that one in as somebody."""
    async with browser(served) as attacker, browser(served) as victim:
        location, sent = await begin(attacker)
        code = house.consent(location)
        given = {"code": code, "state": sent["state"]}
        assert "not begun in this browser" in await refused(served, victim, 401, f"{BEGIN}/callback", **given)
        await begin(victim)  # with one of its own it is another state
        await refused(served, victim, 401, f"{BEGIN}/callback", **given)
        assert code in house.codes, "and nobody was asked about the code"


NOT_WHOLE: list[dict[str, Any]] = [
    {"state": None}, {"state": ""}, {"state": "x" * 43}, {"code": None}, {"code": ""}, {"code": "x" * 5000},
    {"code": "a\nb"}, {"code": ["a", "b"]}, {"state": ["a", "b"]}, {"iss": "https://two.example"}, {"iss": ""},
    {"error": "access_denied"}, {"error": "<script>alert(1)</script>"}, {"error": "x" * 500}, {"code": "unknown"},
]  # fmt: skip


async def test_c14_an_answer_that_is_not_whole_is_refused(served: Served, house: FakeIssuer) -> None:
    for change in NOT_WHOLE:
        async with browser(served) as client:
            location, sent = await begin(client)
            query = {"code": house.consent(location), "state": sent["state"], **change}
            given = {name: value for name, value in query.items() if value is not None}
            text = await refused(served, client, 401, f"{BEGIN}/callback", **given)
            assert "<script>" not in text
            assert 'href="../../../../"' in text


OTHER_BEGINNINGS = [
    "", "x", "x" * 43, "1767225600." + "x" * 42, "1767225600." + "x" * 43, "1767224000." + "x" * 43,
    "9999999999." + "x" * 43, "17672256001." + "x" * 43, "-767225600." + "x" * 43, "a" * 10_000,
]  # fmt: skip


async def test_a_browser_that_brings_another_beginning_is_refused(served: Served, house: FakeIssuer) -> None:
    for cookie in OTHER_BEGINNINGS:
        async with browser(served) as client:
            location, sent = await begin(client)
            code = house.consent(location)
            client.cookies.set(BEGUN, cookie, domain="127.0.0.1", path="/")
            await refused(served, client, 401, f"{BEGIN}/callback", code=code, state=sent["state"])


async def test_a_beginning_is_good_for_minutes(served: Served, house: FakeIssuer, clock: HandClock) -> None:
    async with browser(served) as client:
        location, sent = await begin(client)
        begun = client.cookies[BEGUN]
        clock.seconds += BEGUN_S + 1
        client.cookies.set(BEGUN, begun)
        code = house.consent(location)
        await refused(served, client, 401, f"{BEGIN}/callback", code=code, state=sent["state"])


async def test_c14_an_answer_counts_once(served: Served, house: FakeIssuer) -> None:
    """Also for somebody who has seen it whole, cookie and all, and where the provider forgot that it gave the code."""
    async with browser(served) as client, browser(served) as thief:
        location, sent = await begin(client)
        thief.cookies.set(BEGUN, client.cookies[BEGUN])
        code = house.consent(location)
        kept = house.codes[code]
        given = {"code": code, "state": sent["state"]}
        assert (await client.get(f"{BEGIN}/callback", params=given)).status_code == 200
        house.codes[code] = kept
        again = await thief.get(f"{BEGIN}/callback", params=given)
        assert again.status_code == 401
        assert "used already" in again.text
        assert COOKIE not in thief.cookies


async def test_c14_the_answer_of_one_provider_is_none_of_another(
    served: Served, house: FakeIssuer, other: FakeIssuer
) -> None:
    """Mix-up: the state is for one provider, which has an address of its own for its answers."""
    async with browser(served) as client:
        location, sent = await begin(client)
        code = house.consent(location)
        await refused(served, client, 401, "/api/signin/oidc/two/callback", code=code, state=sent["state"])
        assert (house.exchanged, other.exchanged) == ([], []), "the one is not told the other's code"


async def test_c14_a_provider_that_names_itself_must_do_so(served: Served, house: FakeIssuer) -> None:
    house.says_iss = True
    async with browser(served) as client:
        location, sent = await begin(client)
        given = {"code": house.consent(location), "state": sent["state"]}
        await refused(served, client, 401, f"{BEGIN}/callback", **given)
        location, sent = await begin(client)
        given = {"code": house.consent(location), "state": sent["state"], "iss": house.url}
        assert (await client.get(f"{BEGIN}/callback", params=given)).status_code == 200


ID_TOKENS: list[tuple[dict[str, Any], str]] = [
    ({"nonce": "other"}, "nonce"), ({"nonce": None}, "nonce"), ({"aud": "pilothouse"}, "aud"), ({"aud": None}, "aud"),
    ({"aud": ["pilothouse-page", "other"]}, "azp"), ({"azp": "other"}, "azp"), ({"token_use": "access"}, "token_use"),
    ({"exp": int(NOW) - 61}, "exp"), ({"iat": int(NOW) + 61}, "iat"), ({"iss": "https://two.example"}, "iss"),
    ({"sub": None}, "sub"), ({"raw": "x.y.z"}, "parts"), ({"raw": "no token"}, "parts"),
    ({"aud": ["pilothouse-page", "other"], "azp": "pilothouse-page"}, ""),
]  # fmt: skip


async def test_c14_an_id_token_is_of_this_issuer_client_and_sign_in(served: Served, house: FakeIssuer) -> None:
    for claims, named in ID_TOKENS:
        async with browser(served) as client:
            answer = await signed_in(client, house, **claims)
            assert answer.status_code == (401 if named else 200), (claims, answer.text)
            assert named in answer.text, claims
            assert (COOKIE in client.cookies) == (not named), claims


async def test_c14_an_id_token_signed_by_somebody_else_is_refused(served: Served, house: FakeIssuer) -> None:
    async with browser(served) as client:
        location, sent = await begin(client)
        forged = house.token(key=ec_key(), aud="pilothouse-page", nonce=sent["nonce"])
        code = house.consent(location, raw=forged)
        await refused(served, client, 401, f"{BEGIN}/callback", code=code, state=sent["state"])


async def test_somebody_without_a_role_is_told_so() -> None:
    house = FakeIssuer()
    house.issuer = dataclasses.replace(house.issuer, default_role=None)
    async with serving(houses=[house], clock=Still(NOW)) as served, browser(served) as client:
        location, sent = await begin(client)
        code = house.consent(location, groups=["others"])
        text = await refused(served, client, 403, f"{BEGIN}/callback", code=code, state=sent["state"])
        assert "role" in text


async def test_another_site_cannot_begin_nor_lead_on(served: Served, house: FakeIssuer) -> None:
    """No address is taken from the query: whoever signs in comes to the page, and nowhere else."""
    async with browser(served) as client:
        answer = await client.get(BEGIN, headers={"sec-fetch-site": "cross-site"})
        assert answer.status_code == 403
        assert BEGUN not in client.cookies
        evil = "https://evil.example/"
        more = "&".join(f"{name}={evil}" for name in ("next", "redirect_uri", "return_to", "url", "iss", "target"))
        location, sent = await begin(client, f"{BEGIN}?{more}")
        assert location.startswith("https://issuer.example/")
        assert "evil" not in location
        answer = await client.get(
            f"{BEGIN}/callback?next={evil}&redirect={evil}",
            params={"code": house.consent(location), "state": sent["state"], "next": evil},
        )
        assert answer.status_code == 200
        assert "evil" not in answer.text
        assert "location" not in answer.headers


async def test_beginning_leaves_nothing_here(served: Served) -> None:
    async with browser(served) as client:
        for _ in range(20):
            await begin(client)
    store = served.platform.kit.store
    for kind in ("signin", "ticket", "member"):
        assert await store.scan(kind) == []


# --- bearer tokens at the doors ---


async def test_a_token_is_a_credential_of_the_api_and_of_sockets(
    served: Served, house: FakeIssuer, clock: HandClock
) -> None:
    token = house.token(groups=["ops"], name="Ann")
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(base_url=served.url, headers=headers) as client:
        assert (await me(client))["principal"]["scopes"] == ["read", "run"]
        assert (await client.post("/api/sessions", json={"agent": "echo"})).status_code == 201
        assert (await client.get("/api/keys")).status_code == 403
        assert (await client.get("/api/me", headers={"x-api-key": token})).status_code == 401
        twice = [("authorization", f"Bearer {token}"), ("authorization", "Bearer x")]
        async with httpx.AsyncClient(base_url=served.url) as bare:
            assert (await bare.get("/api/me", headers=twice)).status_code == 401
            wrong = await bare.get("/api/me", headers={"authorization": f"Bearer {token[:-6]}"})
            assert (wrong.status_code, wrong.json()["code"]) == (401, "bad_token")
    async with connect(served.socket_url, additional_headers=headers) as socket:
        await socket.send('{"type": "ping"}')
        assert json.loads(await socket.recv()) == {"type": "pong"}


async def test_c06_a_socket_ends_with_its_token(house: FakeIssuer) -> None:
    """The system's clock: it is a timer of the loop that ends it."""
    async with serving(houses=[house]) as served:
        now = int(time.time())
        token = house.token(iat=now, exp=now - 55)  # good for five seconds more, by the leeway
        async with connect(served.socket_url, additional_headers={"authorization": f"Bearer {token}"}) as socket:
            with pytest.raises(ConnectionClosed):
                await asyncio.wait_for(socket.recv(), 30)
            assert socket.close_code == 4401


async def test_a_sign_in_with_an_issuer_and_a_refused_one_are_in_the_audit(served: Served, house: FakeIssuer) -> None:
    """And the member that somebody becomes by coming, by a token too; no answer of a provider is written down."""
    async with browser(served) as client:
        assert (await signed_in(client, house, sub="ann", name="Ann", groups=["ops"])).status_code == 200
        assert (await signed_in(client, house, sub="ann", name="Ann", groups=["ops"])).status_code == 200
        _, sent = await begin(client)
        strange = await client.get(f"{BEGIN}/callback", params={"code": "x", "state": sent["state"] + "x"})
        assert strange.status_code == 401
        token = {"authorization": f"Bearer {house.token(sub='bob', groups=['ops'])}"}
        assert (await client.get("/api/me", headers=token)).status_code == 200
        wrong = {"authorization": token["authorization"][:-4] + "AAAA"}
        assert (await client.get("/api/me", headers=wrong)).status_code == 401
    records = [json.loads(line) for line in await served.platform.kit.audit.after("default", 0, 100)]
    assert [(r["action"], r["outcome"], r["actor"]["kind"], r["address"]) for r in records] == [
        ("member.add", "ok", "person", "127.0.0.1"), ("signin", "ok", "person", "127.0.0.1"),
        ("signin", "ok", "person", "127.0.0.1"), ("signin", "refused", "nobody", "127.0.0.1"),
        ("member.add", "ok", "person", "127.0.0.1"), ("credential.refuse", "refused", "nobody", "127.0.0.1"),
    ]  # fmt: skip
    assert records[0]["details"] == {"by": "issuer", "disabled": False, "name": "Ann", "role": "operator"}
    assert (records[1]["details"], records[4]["actor"]["credential"][:4]) == ({"by": "example"}, "jwt:")
    assert sent["state"] not in str(records)


# --- who is signed in ---


async def person(served: Served, house: FakeIssuer, sub: str, *groups: str) -> tuple[httpx.AsyncClient, str]:
    client = browser(served)
    assert (await signed_in(client, house, sub=sub, name=sub.title(), groups=list(groups))).status_code == 200
    return client, (await me(client))["csrf"]


async def sign_ins(client: httpx.AsyncClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await client.get("/api/signins")).json()["items"]
    return found


async def test_c13_people_see_and_end_their_own_sign_ins_and_admins_all(served: Served, house: FakeIssuer) -> None:
    ann, ann_csrf = await person(served, house, "ann", "ops")
    bob, bob_csrf = await person(served, house, "bob")
    boss, boss_csrf = await person(served, house, "eve", "boss")
    mine = await sign_ins(ann)
    assert [(one["name"], one["own"], one["current"], one["via"]) for one in mine] == [("Ann", True, True, "example")]
    assert (mine[0]["address"], mine[0]["agent"]) == ("127.0.0.1", "Firefox on Linux")
    assert sorted(one["name"] for one in await sign_ins(boss)) == ["Ann", "Bob", "Eve"]
    theirs = (await sign_ins(bob))[0]["id"]
    foreign = await ann.delete(f"/api/signins/{theirs}", headers=changes(served, ann_csrf))
    unknown = await ann.delete(f"/api/signins/{'0' * 64}", headers=changes(served, ann_csrf))
    assert (foreign.status_code, foreign.content) == (unknown.status_code, unknown.content) == (404, foreign.content)
    await me(bob)
    assert (await boss.delete(f"/api/signins/{theirs}", headers=changes(served, boss_csrf))).status_code == 204
    assert (await bob.get("/api/me")).status_code == 401
    await served.identity.members.make("other", None)
    await served.identity.members.put("other", "ann", role="viewer")
    elsewhere = SignIn(account="ann", name="Zoe", organisation="other", expires_at=NOW + 9999)
    cookie = await served.identity.adopt(elsewhere)
    assert "Zoe" not in [one["name"] for one in await sign_ins(boss)]
    digest = (await served.identity.by_cookie(cookie)).credential.removeprefix("signin:")
    for who, csrf in ((boss, boss_csrf), (ann, ann_csrf)):
        assert (await who.delete(f"/api/signins/{digest}", headers=changes(served, csrf))).status_code == 404
    assert bob_csrf
    token = {"authorization": f"Bearer {house.token(sub='ann', groups=['ops'])}"}
    async with httpx.AsyncClient(base_url=served.url, headers=token) as client:
        assert [one["current"] for one in await sign_ins(client)] == [False]
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key("read")}) as client:
        assert (await client.get("/api/signins")).status_code == 403
        assert (await client.delete(f"/api/signins/{mine[0]['id']}")).status_code == 404
    for client in (ann, bob, boss):
        await client.aclose()


async def test_an_account_that_is_disabled_here_comes_in_by_no_way(
    served: Served, house: FakeIssuer, clock: HandClock
) -> None:
    """Whatever its issuer says; and its role is that of the groups again when it signs in anew."""
    ann, _ = await person(served, house, "ann", "ops")
    account = (await me(ann))["principal"]["id"]
    clock.seconds += 5
    await served.identity.members.put("default", account, role="viewer", disabled=True)
    assert (await ann.get("/api/me")).status_code == 401
    async with browser(served) as client:
        assert (await signed_in(client, house, sub="ann", groups=["ops"])).status_code == 401
        token = {"authorization": f"Bearer {house.token(sub='ann', groups=['ops'])}"}
        assert (await client.get("/api/me", headers=token)).status_code == 401
        await served.identity.members.put("default", account, disabled=False)
        assert (await client.get("/api/me", headers=token)).json()["principal"]["scopes"] == ["read"], "an older word"
        clock.seconds += AHEAD_S + 1
        late = {"iat": int(clock.seconds), "exp": int(clock.seconds) + 600}
        assert (await signed_in(client, house, sub="ann", groups=["ops"], **late)).status_code == 200
        assert (await me(client))["principal"]["scopes"] == ["read", "run"]
    await ann.aclose()


async def test_c12_an_ended_sign_in_ends_its_sockets(served: Served, house: FakeIssuer) -> None:
    ann, csrf = await person(served, house, "ann")
    second, _ = await person(served, house, "ann")
    cookie = {"cookie": f"{COOKIE}={second.cookies[COOKIE]}", "origin": served.url}
    async with connect(served.socket_url, additional_headers=cookie) as socket:
        other = next(one["id"] for one in await sign_ins(ann) if not one["current"])
        assert (await ann.delete(f"/api/signins/{other}", headers=changes(served, csrf))).status_code == 204
        with pytest.raises(ConnectionClosed):
            await asyncio.wait_for(socket.recv(), 10)
        assert socket.close_code == 4401
    assert (await second.get("/api/me")).status_code == 401
    await me(ann)
    for client in (ann, second):
        await client.aclose()


async def test_signing_out_everywhere_ends_all_of_ones_own(served: Served, house: FakeIssuer) -> None:
    ann, csrf = await person(served, house, "ann")
    others = [(await person(served, house, "ann"))[0] for _ in range(2)]
    bob, _ = await person(served, house, "bob")
    wrong = await ann.post("/api/signout", json={"everywhere": "yes"}, headers=changes(served, csrf))
    assert wrong.status_code == 400
    out = await ann.post("/api/signout", json={"everywhere": True}, headers=changes(served, csrf))
    assert out.status_code == 204
    for client in (ann, *others):
        assert (await client.get("/api/me")).status_code == 401
        await client.aclose()
    await me(bob)
    await bob.aclose()
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": await served.key()}) as client:
        assert (await client.post("/api/signout", json={"everywhere": True})).status_code == 403
    records = [json.loads(line) for line in await served.platform.kit.audit.after("default", 0, 100)]
    ended = [(r["action"], r["actor"]["name"]) for r in records if r["action"] in {"signout", "signin.end"}]
    assert sorted(ended) == [("signin.end", "Ann"), ("signin.end", "Ann"), ("signout", "Ann")]


async def test_a_sign_in_says_when_it_was_seen(served: Served, house: FakeIssuer, clock: HandClock) -> None:
    ann, _ = await person(served, house, "ann")
    clock.seconds += 3600
    await me(ann)
    one = (await sign_ins(ann))[0]
    assert (one["createdAt"], one["lastSeenAt"]) == ("2026-01-01T00:00:00.000Z", "2026-01-01T01:00:00.000Z")
    again = Identity(served.platform.kit.store, clock)  # another server on the same store
    await again.load()
    who = again.members.now(await again.by_cookie(ann.cookies[COOKIE]))
    assert (who.account, who.role) == (one["account"], "viewer")
    kept = [decode(doc) for _, doc in await served.platform.kit.store.scan("signin")]
    assert [entry.via for entry in kept] == ["example"]
    await ann.aclose()


async def test_one_account_keeps_so_many_sign_ins(served: Served, clock: HandClock) -> None:
    told: list[str] = []
    served.identity.on_revoke.append(told.append)
    await served.identity.members.put("default", "ann", role="viewer")
    cookies = []
    for _ in range(OWN_MAX + 3):
        clock.seconds += 1
        cookies.append(await served.identity.adopt(SignIn(account="ann", expires_at=clock.now() + 9999)))
    assert len(told) == 3
    assert len(await served.platform.kit.store.scan("signin")) == OWN_MAX
    await served.identity.by_cookie(cookies[-1])
    await served.identity.by_cookie(cookies[3])
