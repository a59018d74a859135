"""The program as a process, its control socket, and the server's client to it."""

from __future__ import annotations

import asyncio
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest

from pilothouse.adapters.models.demo import application
from pilothouse.adapters.proxies.local import LocalProxy
from pilothouse.core.errors import BadRequest, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Budget, UsageRecord
from pilothouse.engine.upstream import EgressSettings, ModelSettings
from tests.adapters.models.serving import serving
from tests.adapters.proxies.house import CANARY, Holder, new_job, new_session, start_program


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ph", dir="/tmp") as place:  # a short path, for unix sockets
        yield Path(place)


@pytest.fixture
async def demo() -> AsyncIterator[str]:
    async with serving(application(pace=0, control=True)) as url:
        yield url


@pytest.fixture
async def proxy(runtime: Path, demo: str) -> AsyncIterator[LocalProxy]:
    client = LocalProxy(runtime)
    try:
        yield client
    finally:
        await client.close()


def settings(demo: str) -> ModelSettings:
    return ModelSettings(provider="anthropic", base_url=demo, api_key=CANARY)


async def call(url: str, prompt: str = "demo: say hi") -> int:
    given = {"model": "demo", "max_tokens": 9, "messages": [{"role": "user", "content": prompt}]}
    async with aiohttp.ClientSession() as http, http.post(url + "/v1/messages", json=given) as response:
        await response.read()
        return response.status


async def take(proxy: LocalProxy, marks: list[tuple[str, int]], count: int) -> list[UsageRecord]:
    found: list[UsageRecord] = []
    async for record in proxy.usage(marks):
        found.append(record)
        if len(found) == count:
            break
    return found


async def test_numbers_have_no_holes_over_a_killed_proxy(
    tmp_path: Path, runtime: Path, demo: str, proxy: LocalProxy
) -> None:
    session, job = new_session(), new_job()
    holder = Holder(runtime, session)
    first = await start_program(tmp_path, runtime)
    second = None
    try:
        state = await proxy.configure(settings(demo), EgressSettings())
        assert (state.provider, state.demo, state.ready) == ("anthropic", False, True)
        await proxy.admit(session, job, Budget())
        assert [await call(holder.url) for _ in range(3)] == [200] * 3
        taken = await take(proxy, [], 2)
        first.kill()
        await first.wait()
        waiting = asyncio.create_task(call(holder.url))  # nobody accepts; the connection waits
        second = await start_program(tmp_path, runtime)
        assert await waiting == 200
        rest = await take(proxy, [(taken[-1].proxy_id, taken[-1].n)], 2)
        assert [r.n for r in taken + rest] == [1, 2, 3, 4]
        assert len({r.proxy_id for r in taken + rest}) == 1
        total = await proxy.spent(session, job)
        assert total is not None
        assert total.output_tokens == sum(r.output_tokens for r in taken + rest)
    finally:
        holder.close()
        for process in (first, second):
            if process is not None and process.returncode is None:
                process.terminate()
                await process.wait()


async def test_a_half_written_record_is_cut_off(tmp_path: Path, runtime: Path, demo: str, proxy: LocalProxy) -> None:
    session = new_session()
    holder = Holder(runtime, session)
    first = await start_program(tmp_path, runtime)
    await proxy.configure(settings(demo), EgressSettings())
    await proxy.admit(session, None, Budget())
    assert await call(holder.url) == 200
    (known,) = await take(proxy, [], 1)
    first.kill()
    await first.wait()
    (spool,) = (tmp_path / "proxy").glob("usage-*.ndjson")
    spool.write_bytes(spool.read_bytes() + b'{"proxy_id": "x", "n": 2, "sess')
    second = await start_program(tmp_path, runtime)
    try:
        assert await call(holder.url) == 200
        (after,) = await take(proxy, [(known.proxy_id, 1)], 1)
        assert (after.n, after.proxy_id) == (2, known.proxy_id)
        assert [msgspec.json.decode(line)["n"] for line in spool.read_bytes().splitlines()] == [1, 2]
    finally:
        holder.close()
        second.terminate()
        assert await second.wait() == 0


async def test_an_answer_under_way_is_finished_when_told_to_end(
    tmp_path: Path, runtime: Path, demo: str, proxy: LocalProxy
) -> None:
    session = new_session()
    holder = Holder(runtime, session)
    process = await start_program(tmp_path, runtime)
    try:
        await proxy.configure(settings(demo), EgressSettings())
        await proxy.admit(session, None, Budget())
        answer = asyncio.create_task(call(holder.url, "demo: hold gate\ndemo: say hi"))
        async with aiohttp.ClientSession() as http:
            while "gate" not in (await (await http.get(demo + "/demo/calls")).json())["waiting"]:
                assert not answer.done()
            process.terminate()
            await http.post(demo + "/demo/release/gate")
        assert await answer == 200
        assert await process.wait() == 0
    finally:
        holder.close()


async def test_one_writer_and_a_private_socket(tmp_path: Path, runtime: Path, demo: str, proxy: LocalProxy) -> None:
    first = await start_program(tmp_path, runtime)
    try:
        await proxy.configure(settings(demo), EgressSettings())
        mode = (runtime / "proxy.sock").stat().st_mode
        assert stat.S_IMODE(mode) == 0o600
        assert CANARY.encode() not in Path(f"/proc/{first.pid}/cmdline").read_bytes()
        assert CANARY.encode() not in Path(f"/proc/{first.pid}/environ").read_bytes()
        assert not any(CANARY in p.read_text() for p in (tmp_path / "proxy").iterdir())
        second = await start_program(tmp_path, runtime)
        assert await second.wait() == 1
        assert (await proxy.state()).ready
    finally:
        first.terminate()
        await first.wait()


async def test_bad_words_are_refused_by_name(tmp_path: Path, runtime: Path, demo: str, proxy: LocalProxy) -> None:
    process = await start_program(tmp_path, runtime)
    try:
        with pytest.raises(BadRequest, match="session id"):
            await proxy.admit(SessionId("../../etc"), None, Budget())
        with pytest.raises(BadRequest, match="'nobody' is none of auto, anthropic, bedrock, demo"):
            await proxy.configure(ModelSettings(provider="nobody"), EgressSettings())
        async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(runtime / "proxy.sock"))) as http:
            for path, data in (("/admit", b"[]"), ("/configure", b"\xff"), ("/admit", b"{" * 10_000)):
                assert (await http.post("http://proxy" + path, data=data)).status == 400
            assert (await http.get("http://proxy/usage?mark=x:-1")).status == 400
    finally:
        process.terminate()
        await process.wait()


async def test_a_proxy_that_is_not_there_is_said_so(runtime: Path) -> None:
    client = LocalProxy(runtime, patience_s=0.2)
    with pytest.raises(Unavailable, match="the model proxy does not answer"):
        await client.state()
    await client.close()


async def test_without_a_credential_the_first_provider_that_is_ready_serves(
    tmp_path: Path, runtime: Path, proxy: LocalProxy
) -> None:
    process = await start_program(tmp_path, runtime)
    try:
        state = await proxy.configure(ModelSettings(), EgressSettings())
        assert (state.provider, state.demo, state.model, state.ready) == ("demo", True, "demo", True)
        state = await proxy.configure(ModelSettings(api_key="x"), EgressSettings())
        assert (state.provider, state.demo) == ("anthropic", False)
        state = await proxy.configure(ModelSettings(provider="anthropic"), EgressSettings())
        assert (state.ready, "ANTHROPIC_API_KEY" in state.detail) == (False, True)
    finally:
        process.terminate()
        await process.wait()
    assert os.listdir(tmp_path / "proxy")
