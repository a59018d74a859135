"""`/api/usage`: who sees whose, what is asked for wrongly, and CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from pilothouse.core import tally
from pilothouse.core.ids import SessionId
from pilothouse.core.tally import SUMS, Tally
from pilothouse.engine import tallies
from tests.web.serving import Served, serving
from tests.web.world import World

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def served() -> AsyncIterator[Served]:
    async with serving() as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(served: Served) -> World:
    made = World(served)
    await made.settle()
    session = await served.platform.sessions.create(owner="owner", organisation="red", agent="echo", title="=1+1")
    await served.platform.sessions.shelf.share(session, private=True)
    made.session = session
    today = tally.day(served.platform.kit.clock.now())

    def one(organisation: str, person: str, tokens: int, **more: Any) -> Tally:
        usual: dict[str, Any] = {"day": today, "session": session.live.record.id, "calls": 1, "cost_usd": tokens / 10}
        return Tally(organisation=organisation, person=person, input_tokens=tokens, **(usual | more))

    every = [
        one("red", "operator", 1, model="=cmd|' /C calc'!A0"),
        one("red", "owner", 2, key="0123", key_name="@ci"),
        one("red", "owner", 4, day="2020-01-01"),
        one("blue", "operator", 8, session=SessionId("b")),
        one("red-two", "operator", 16),
    ]
    await served.platform.kit.store.commit(*map(tallies.put, every))
    return made


async def asked(world: World, who: tuple[str, str], path: str = "/api/usage", **query: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=world.served.url, headers=world.by_key(*who)) as http:
        return await http.get(path, params=query)


@pytest.mark.parametrize(
    ("organisation", "account", "tokens", "whose"),
    [
        ("red", "admin", 3, "organisation"),
        ("red", "operator", 1, "own"),
        ("red", "owner", 2, "own"),
        ("red", "viewer", 0, "own"),
        ("blue", "admin", 8, "organisation"),
        ("blue", "owner", 0, "own"),
    ],
)
async def test_an_admin_sees_the_organisations_and_others_their_own(
    world: World, organisation: str, account: str, tokens: int, whose: str
) -> None:
    answer = (await asked(world, (organisation, account), by="person,session")).json()
    assert (answer["total"]["inputTokens"], answer["whose"], answer["organisation"]) == (tokens, whose, organisation)
    assert sum(row["inputTokens"] for row in answer["items"]) == tokens
    text = (await asked(world, (organisation, account), "/api/usage.csv", by="person")).text
    assert sum(int(row["input_tokens"]) for row in csv.DictReader(io.StringIO(text))) == tokens


async def test_another_organisation_is_for_admins_of_the_server(world: World) -> None:
    assert (await asked(world, ("red", "admin"), organisation="blue")).status_code == 403
    async with httpx.AsyncClient(base_url=world.served.url, headers={"x-api-key": await world.served.key()}) as http:
        assert (await http.get("/api/usage?organisation=blue")).json()["total"]["inputTokens"] == 8
        assert (await http.get("/api/usage?organisation=none")).status_code == 404
    reading = await world.served.key("read")
    async with httpx.AsyncClient(base_url=world.served.url, headers={"x-api-key": reading}) as http:
        assert (await http.get("/api/usage?organisation=blue")).status_code == 403
        assert (await http.get("/api/usage")).json()["whose"] == "own"  # an admin's key that may only read


async def test_a_title_is_told_to_whom_the_session_is_shown(world: World) -> None:
    titles = {
        account: [row["sessionTitle"] for row in (await asked(world, ("red", account), by="session")).json()["items"]]
        for account in ("admin", "owner", "operator")
    }
    assert titles == {"admin": ["=1+1"], "owner": ["=1+1"], "operator": [""]}


async def test_rows_have_the_fields_that_were_asked_for_and_what_people_call_them(world: World) -> None:
    answer = (await asked(world, ("red", "admin"), by="key,person")).json()
    sums = {"calls", "refused", "inputTokens", "outputTokens", "cacheReadTokens", "cacheWriteTokens", "costUsd",
            "guessedTokens", "guessedCostUsd", "agentTokens", "agentCostUsd"}  # fmt: skip
    assert len(sums) == len(SUMS)
    assert {frozenset(row) for row in answer["items"]} == {frozenset({"key", "keyName", "person", "personName", *sums})}
    assert [(r["key"], r["keyName"], r["person"]) for r in answer["items"]] == [
        ("0123", "@ci", "owner"),
        ("", "", "operator"),
    ]
    old = (await asked(world, ("red", "admin"), **{"from": "2020-01-01", "to": "2020-01-01"})).json()
    assert (old["from"], old["to"], old["by"], old["total"]["inputTokens"]) == ("2020-01-01", "2020-01-01", ["day"], 4)


async def test_no_cell_of_a_csv_is_a_formula(world: World) -> None:
    for path, headers in (("/api/usage.csv", {}), ("/api/usage", {"accept": "text/csv"})):
        key = world.by_key("red", "admin")
        async with httpx.AsyncClient(base_url=world.served.url, headers=key | headers) as http:
            answer = await http.get(path, params={"by": "session,key,model"})
        assert answer.headers["content-type"] == "text/csv; charset=utf-8"
        assert "attachment" in answer.headers["content-disposition"]
        rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
        assert {row["session_title"] for row in rows} == {"'=1+1"}
        assert {row["key_name"] for row in rows} == {"'@ci", ""}
        assert {row["model"] for row in rows} == {"'=cmd|' /C calc'!A0", ""}


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("by=week", "by"),
        ("by=", "by"),
        ("by=day,day", "by"),
        ("from=2026-13-01", "from"),
        ("to=x%00", "to"),
        ("from=2026-01-02&to=2026-01-01", "from"),
        ("from=2000-01-01&to=2026-01-01", "from"),
        ("by=day&by=key", "by"),
        ("group=day", "group"),
        ("from=2026-01-01&from=2026-01-01", "from"),
    ],
)
async def test_what_is_asked_wrongly_is_named(world: World, query: str, named: str) -> None:
    for path in ("/api/usage", "/api/usage.csv"):
        async with httpx.AsyncClient(base_url=world.served.url, headers=world.by_key("red", "admin")) as http:
            answer = await http.get(f"{path}?{query}")
        assert answer.status_code == 400
        assert answer.json()["detail"].startswith(named)


async def test_a_job_remembers_the_key_that_asked_for_it(served: Served) -> None:
    record, text = await served.identity.keys.create("ci", ("read", "run"))
    async with httpx.AsyncClient(base_url=served.url, headers={"x-api-key": text}) as http:
        session = (await http.post("/api/sessions", json={"agent": "echo"})).json()["id"]
        job = (await http.post(f"/api/sessions/{session}/jobs", json={"prompt": "x"})).json()
        assert "key" not in job
    found = await tallies.Tallies(served.platform.kit.store).job(job["id"])
    assert found is not None
    assert (found.key, found.by, found.askers) == (record.id, "key:ci", ["local"])
