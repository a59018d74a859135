"""The model listener: who pays, what passes, what does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from pilothouse.adapters.models.demo import application
from pilothouse.adapters.proxies.desk import Desk
from pilothouse.adapters.proxies.model import Limits
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Budget, UsageRecord
from pilothouse.engine.upstream import EgressSettings, ModelSettings
from tests.adapters.models.agent import ask, result, retries
from tests.adapters.models.serving import serving
from tests.adapters.proxies.house import CANARY, Listeners, desk, new_job, new_session


def body(prompt: str, stream: bool = False, model: str = "demo") -> dict[str, Any]:
    return {"model": model, "max_tokens": 9, "messages": [{"role": "user", "content": prompt}], "stream": stream}


@pytest.fixture
async def demo() -> AsyncIterator[str]:
    async with serving(application(pace=0, control=True)) as url:
        yield url


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[tuple[Desk, Listeners]]:
    async with desk(tmp_path / "proxy", Limits(body_max=500_000, body_s=3.0, configured_s=3.0)) as made:
        yield made


async def admitted(place: tuple[Desk, Listeners], upstream: str, budget: Budget | None = None) -> SessionId:
    session = new_session()
    place[1].add(session)
    settings = ModelSettings(provider="anthropic", base_url=upstream, api_key=CANARY)
    await place[0].configure(settings, EgressSettings())
    await place[0].admit(session, new_job(), budget or Budget())
    return session


async def records(made: Desk, count: int) -> list[UsageRecord]:
    found: list[UsageRecord] = []
    async for record in made.ledger.follow({}):
        found.append(record)
        if len(found) == count:
            break
    return found


async def test_the_key_is_added_outside_and_the_sessions_own_authority_dropped(place: tuple[Desk, Listeners]) -> None:
    seen: list[dict[str, str]] = []

    async def upstream(request: web.Request) -> web.Response:
        seen.append({k.lower(): v for k, v in request.headers.items()})
        return web.json_response({"type": "error"}, status=401, headers={"x-echo": request.headers["x-api-key"]})

    app = web.Application()
    app.router.add_post("/v1/messages", upstream)
    async with serving(app) as url:
        session = await admitted(place, url)
        sent = {"x-api-key": "mine", "authorization": "Bearer mine", "cookie": "a=b", "forwarded": "for=1"}
        async with aiohttp.ClientSession() as http:
            target = place[1].url(session) + "/v1/messages?beta=true"
            async with http.post(target, json=body("x"), headers={**sent, "anthropic-beta": "b"}) as response:
                answer = await response.text() + str(response.headers)
    assert seen[0]["x-api-key"] == CANARY
    assert seen[0]["anthropic-beta"] == "b"
    assert not {"authorization", "cookie", "forwarded"} & seen[0].keys()
    assert "mine" not in str(seen)
    assert CANARY not in answer
    assert "refused the configured credential (401)" in answer


async def test_a_call_is_metered_to_the_job_of_the_moment(place: tuple[Desk, Listeners], demo: str) -> None:
    session = await admitted(place, demo)
    jobs = [new_job(), new_job()]
    async with aiohttp.ClientSession() as http:
        for job, stream in zip(jobs, (True, False), strict=True):
            await place[0].admit(session, job, Budget())
            given = body("demo: text 400", stream, "claude-sonnet-4-5")
            async with http.post(place[1].url(session) + "/v1/messages", json=given) as response:
                await response.read()
    first, second = await records(place[0], 2)
    assert [(r.n, r.job, r.status, r.model) for r in (first, second)] == [
        (1, jobs[0], 200, "claude-sonnet-4-5"),
        (2, jobs[1], 200, "claude-sonnet-4-5"),
    ]
    assert first.output_tokens == second.output_tokens > 400
    assert first.cost_usd == pytest.approx((first.input_tokens * 3 + first.output_tokens * 15) / 1e6)


async def test_the_demo_model_is_free_and_recorded_as_itself(place: tuple[Desk, Listeners]) -> None:
    session = new_session()
    place[1].add(session)
    await place[0].configure(ModelSettings(provider="demo", model="claude-sonnet-4-5"), EgressSettings())
    await place[0].admit(session, job := new_job(), Budget(max_cost_usd=0.000001, max_tokens=1))
    async with aiohttp.ClientSession() as http:
        for status in (200, 402):
            given = body("demo: say x", model="claude-opus-4-5")
            async with http.post(place[1].url(session) + "/v1/messages", json=given) as response:
                assert response.status == status
    assert [(r.model, r.cost_usd, r.price_guessed) for r in await records(place[0], 2)] == [("demo", 0.0, False)] * 2
    total = place[0].ledger.spent(session, job)
    assert total is not None
    assert (total.model, total.cost_usd, total.output_tokens > 0) == ("demo", 0.0, True)


async def test_a_used_up_budget_refuses_the_next_call_only(place: tuple[Desk, Listeners], demo: str) -> None:
    session = await admitted(place, demo, Budget(max_tokens=50))
    async with aiohttp.ClientSession() as http:
        statuses = []
        for _ in range(2):
            async with http.post(place[1].url(session) + "/v1/messages", json=body("demo: text 90")) as response:
                statuses.append((response.status, await response.json()))
    assert [status for status, _ in statuses] == [200, 402]
    assert "budget of 50 tokens is used up" in statuses[1][1]["error"]["message"]
    assert [r.refused for r in await records(place[0], 2)] == ["", "budget"]


async def test_a_session_budget_counts_all_jobs(place: tuple[Desk, Listeners], demo: str) -> None:
    session = await admitted(place, demo)
    async with aiohttp.ClientSession() as http:
        for status in (200, 402):
            await place[0].admit(session, new_job(), Budget(session_max_cost_usd=0.000001))
            given = body("demo: say x", model="claude-sonnet-4-5")
            assert (await http.post(place[1].url(session) + "/v1/messages", json=given)).status == status


async def test_a_hang_up_reaches_the_provider_and_what_passed_is_paid(place: tuple[Desk, Listeners], demo: str) -> None:
    session = await admitted(place, demo)
    async with aiohttp.ClientSession() as http:
        given = body("demo: text 100\ndemo: hang", stream=True)
        async with http.post(place[1].url(session) + "/v1/messages", json=given) as response:
            got = b""
            while b"content_block_stop" not in got:
                got += await response.content.readany()
            response.close()
        (record,) = await records(place[0], 1)
        assert record.status == 499
        assert record.output_tokens > 100
        while (await (await http.get(demo + "/demo/calls")).json())["hangups"] != 1:
            pass


async def test_a_stream_passes_while_it_grows_and_a_cut_is_a_cut(place: tuple[Desk, Listeners], demo: str) -> None:
    session = await admitted(place, demo)
    async with aiohttp.ClientSession() as http:
        given = body("demo: say early\ndemo: hold gate\ndemo: cut", stream=True)
        async with http.post(place[1].url(session) + "/v1/messages", json=given) as response:
            got = b""
            while b"early" not in got:
                got += await response.content.readany()
            await http.post(demo + "/demo/release/gate")
            with pytest.raises(aiohttp.ClientError):
                await response.read()
    (record,) = await records(place[0], 1)
    assert record.status == 200


async def test_a_provider_that_is_away_or_refuses_is_named(place: tuple[Desk, Listeners], demo: str) -> None:
    session = await admitted(place, "http://127.0.0.1:9")
    async with aiohttp.ClientSession() as http:
        response = await http.post(place[1].url(session) + "/v1/messages", json=body("x"))
        assert (response.status, "cannot be reached" in await response.text()) == (502, True)
        await place[0].configure(ModelSettings(provider="anthropic", base_url=demo, api_key="k"), EgressSettings())
        response = await http.post(place[1].url(session) + "/v1/messages", json=body("demo: error 429 1 9"))
        assert (response.status, response.headers["retry-after"]) == (429, "9")
        response = await http.get(place[1].url(session) + "/v1/models")
        assert (await response.json())["data"][0]["id"] == "demo"


HOSTILE = {
    "absolute target": (b"POST http://evil.test/v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", b"400"),
    "dots": (b"POST /v1/../v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", b"400"),
    "escaped": (b"POST /v1/%6dessages HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n", b"400"),
    "other endpoint": (b"GET /v1/organizations HTTP/1.1\r\nhost: x\r\n\r\n", b"404"),
    "other method": (b"DELETE /v1/messages HTTP/1.1\r\nhost: x\r\n\r\n", b"405"),
    "both lengths": (
        b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"400",
    ),
    "huge header": (b"GET /v1/models HTTP/1.1\r\nhost: x\r\na: " + b"b" * 100_000 + b"\r\n\r\n", b"400"),
    "said to be huge": (b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 500001\r\n\r\n", b"413"),
    "slow body": (b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{", b"408"),
    "no json": (b"POST /v1/messages HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\n[[[[", b"400"),
    "no http": (b"\x16\x03\x01\x00\xff\r\n\r\n", b"400"),
    "connect": (b"CONNECT evil.test:443 HTTP/1.1\r\nhost: evil.test\r\n\r\n", b"400"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_requests(place: tuple[Desk, Listeners], demo: str, name: str) -> None:
    session = await admitted(place, demo)
    raw, status = HOSTILE[name]
    reader, writer = await asyncio.open_connection("127.0.0.1", int(place[1].url(session).rpartition(":")[2]))
    writer.write(raw)
    line = await reader.readline()
    writer.close()
    assert line.split(b" ")[1] == status
    async with aiohttp.ClientSession() as http:
        assert (await http.get(place[1].url(session) + "/v1/models")).status == 200
        calls = (await (await http.get(demo + "/demo/calls")).json())["calls"]
    assert calls == 0


async def test_calls_wait_for_a_configuration(place: tuple[Desk, Listeners]) -> None:
    session = new_session()
    place[1].add(session)
    await place[0].admit(session, None, Budget())
    async with aiohttp.ClientSession() as http:
        waiting = asyncio.create_task(http.post(place[1].url(session) + "/v1/messages", json=body("demo: say hi")))
        await asyncio.sleep(0)
        await place[0].configure(ModelSettings(provider="demo"), EgressSettings())
        assert (await (await waiting).json())["content"][0]["text"] == "hi"


async def test_calls_are_told_when_no_configuration_comes(place: tuple[Desk, Listeners]) -> None:
    session = new_session()
    place[1].add(session)
    await place[0].admit(session, None, Budget())
    async with aiohttp.ClientSession() as http:
        response = await http.post(place[1].url(session) + "/v1/messages", json=body("x"))
        assert response.status == 503


async def test_twenty_sessions_at_once(place: tuple[Desk, Listeners], demo: str) -> None:
    sessions = [await admitted(place, demo) for _ in range(20)]
    async with aiohttp.ClientSession() as http:

        async def one(at: int, session: SessionId) -> str:
            given = body(f"demo: say i am {at}")
            async with http.post(place[1].url(session) + "/v1/messages", json=given) as response:
                answer: str = (await response.json())["content"][0]["text"]
                return answer

        said = await asyncio.gather(*(one(at, session) for at, session in enumerate(sessions)))
    assert said == [f"i am {at}" for at in range(20)]
    made = await records(place[0], 20)
    assert [r.n for r in made] == list(range(1, 21))
    assert {r.session for r in made} == set(sessions)


async def test_a_dropped_session_is_not_served(place: tuple[Desk, Listeners], demo: str) -> None:
    session = await admitted(place, demo)
    await place[0].drop(session)
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.3)) as http:
        with pytest.raises(asyncio.TimeoutError):
            await http.get(place[1].url(session) + "/v1/models")


# --- with the real agent --------------------------------------------------------------------------------------------


async def test_the_agent_works_through_the_proxy_and_never_sees_the_key(
    place: tuple[Desk, Listeners], demo: str, tmp_path: Path
) -> None:
    session = await admitted(place, demo)
    prompt = "demo: bash env; cat /proc/self/environ\ndemo: say done"
    said = await ask(tmp_path, place[1].url(session), prompt, tools="Bash")
    assert result(said)["result"] == "done"
    assert "session-placeholder" in json.dumps(said)
    assert CANARY not in json.dumps(said)
    assert [r.status for r in await records(place[0], 2)] == [200, 200]


async def test_the_agent_does_not_try_again_when_the_budget_is_used_up(
    place: tuple[Desk, Listeners], demo: str, tmp_path: Path
) -> None:
    session = await admitted(place, demo, Budget(max_tokens=0))
    said = await ask(tmp_path, place[1].url(session), "demo: say x")
    assert "budget" in result(said)["result"]
    assert (result(said)["api_error_status"], retries(said)) == (402, [])


async def test_the_agent_survives_cuts_and_an_overloaded_provider(
    place: tuple[Desk, Listeners], demo: str, tmp_path: Path
) -> None:
    session = await admitted(place, demo)
    prompt = "demo: error 529 1\ndemo: say one\ndemo: cut 2\ndemo: say two"
    said = await ask(tmp_path, place[1].url(session), prompt)
    assert (result(said)["result"], result(said)["is_error"]) == ("two", False)
    assert retries(said)[0] == 529


async def test_the_agent_does_not_try_a_refused_credential_for_minutes(
    place: tuple[Desk, Listeners], demo: str, tmp_path: Path
) -> None:
    session = await admitted(place, demo)
    said = await ask(tmp_path, place[1].url(session), "demo: error 401", retries=10)
    assert "refused the configured credential" in result(said)["result"]
    assert len(retries(said)) <= 2
