"""Spans that are made of a log: the same whichever server looks, below the caller's own, with nothing of anybody's
words in them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest

from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core import events as ev
from pilothouse.core import spans as module
from pilothouse.core.ids import JobId, SessionId
from pilothouse.core.spans import Span
from pilothouse.core.traceparent import Place, parse, trace_id
from pilothouse.engine import records
from pilothouse.engine.kit import Kit, Limits
from pilothouse.engine.log import Log
from pilothouse.engine.ports import Put, UsageRecord
from pilothouse.engine.records import JobRecord
from pilothouse.engine.traces import SpanList, Traces
from tests.engine.fakes import FakeModels, FakeSandboxes, HandClock

S = SessionId("s")
CALLER = Place("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7", True)
PROMPT, SECRET = "the prompt with a s3cr3t", "s3cr3t"


class House:
    """Servers one after another on one store."""

    def __init__(self) -> None:
        self.store, self.clock, self.list = MemoryStore(), HandClock(1_700_000_000), SpanList()
        self.start()

    def start(self) -> None:
        log = Log(self.store, self.clock)
        self.kit = Kit(self.store, log, FakeSandboxes(), FakeModels(), self.clock, Limits())
        self.traces = Traces(self.kit, self.list)
        log.on_rows.append(self.traces.rows)

    async def job(self, id: str = "j", trace: str = "") -> None:
        made = JobRecord(
            id=JobId(id), session_id=S, prompt=PROMPT, by="ann", created_at="", permission_mode="manual", trace=trace,
            first_seq=1 + await self.kit.log.head(S),
        )  # fmt: skip
        await self.store.commit(records.put(made))

    async def happens(self, *events: ev.Event, after: float = 1) -> None:
        await self.clock.wind(after)
        await self.kit.log.append(S, events)

    async def spans(self) -> dict[str, Span]:
        await self.traces.close()
        names = [span.name for span in self.list.spans]
        assert len(names) == len(set(names)), names
        return {span.name: span for span in self.list.spans}


def started(job: str = "j") -> ev.JobStarted:
    return ev.JobStarted(
        job_id=job, agent="claude", agent_version="2.1.0", model="m-1", demo=False, permission_mode="manual", by="ann"
    )


def chat(job: str = "j") -> ev.Chat:
    return ev.Chat(job_id=job, message=PROMPT, by=SECRET)


def tool(id: str, name: str = "Bash", job: str = "j", parent: str | None = None) -> ev.ToolUse:
    return ev.ToolUse(
        job_id=job,
        tool=name,
        tool_id=id,
        input={"command": SECRET},
        kind="execute",
        title=SECRET,
        parent_tool_id=parent,
    )


def result(id: str, *, bad: bool = False, job: str = "j") -> ev.ToolResult:
    return ev.ToolResult(job_id=job, tool_id=id, result=SECRET, is_error=bad)


def complete(job: str = "j", outcome: ev.Outcome = "succeeded", reason: str | None = None) -> ev.Complete:
    return ev.Complete(
        job_id=job, outcome=outcome, result=SECRET, total_cost=0.5, duration_ms=1, num_turns=1, reason=reason
    )


async def test_a_job_with_tools_and_an_approval() -> None:
    house = House()
    await house.job(trace=str(CALLER))
    await house.happens(chat())
    await house.happens(started(), after=2)
    await house.happens(tool("t1", "Task"))
    await house.happens(tool("t2", parent="t1"))
    await house.happens(ev.ApprovalRequired(
        job_id="j", approval_id="a", tool_id="t2", tool="Bash", input={"command": SECRET}, input_hash="", options=[],
        reason=SECRET,
    ), after=3)  # fmt: skip
    await house.happens(tool("other job's", job="k"))
    await house.happens(ev.ApprovalResolved(job_id="j", approval_id="a", outcome="approved", by=SECRET), after=10)
    await house.happens(result("t2", bad=True))
    await house.happens(result("t1"))
    await house.happens(
        ev.Usage(
            job_id="j", input_tokens=10, output_tokens=20, cache_read_tokens=0, cache_write_tokens=0, total_cost=0.5,
            measured="proxy",
        ),
        complete(),
    )  # fmt: skip
    spans = await house.spans()
    assert list(spans) == ["queue", "approve", "execute_tool Bash", "execute_tool Task", "invoke_agent claude"]
    job = spans["invoke_agent claude"]
    assert (job.place.trace, job.parent, job.remote) == (CALLER.trace, CALLER.span, True)
    assert {name: round(span.end - span.start) for name, span in spans.items()} == {
        "queue": 2, "approve": 11, "execute_tool Bash": 15, "execute_tool Task": 17, "invoke_agent claude": 21,
    }  # fmt: skip
    below = {span.place.span: name for name, span in spans.items()}
    assert {name: below.get(span.parent) for name, span in spans.items()} == {
        "queue": "invoke_agent claude",
        "approve": "execute_tool Bash",
        "execute_tool Bash": "execute_tool Task",
        "execute_tool Task": "invoke_agent claude",
        "invoke_agent claude": None,
    }
    assert {span.place.trace for span in spans.values()} == {CALLER.trace}
    assert (spans["execute_tool Bash"].error, spans["execute_tool Task"].error, job.error) == ("tool_error", "", "")
    assert job.attributes == {
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.agent.name": "claude",
        "gen_ai.agent.version": "2.1.0",
        "gen_ai.conversation.id": "s",
        "gen_ai.request.model": "m-1",
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 20,
        "pilothouse.cost_usd": 0.5,
        "pilothouse.demo": False,
        "pilothouse.job.id": "j",
        "pilothouse.job.outcome": "succeeded",
        "pilothouse.usage.measured": "proxy",
    }
    assert SECRET not in json.dumps([asdict(span) for span in spans.values()])


async def test_a_restart_in_the_middle_gives_one_span() -> None:
    whole, cut = House(), House()
    for house in (whole, cut):
        await house.job()
        for event in (chat(), started(), tool("t"), result("t"), complete()):
            if house is cut:
                house.start()  # a server that is killed leaves nothing but the store
            await house.happens(event)
    assert await whole.spans() == await cut.spans()
    assert len(cut.list.spans) == 3
    assert whole.list.spans[-1].place.trace == trace_id("j")
    assert whole.list.spans[-1].parent == ""


async def test_names_that_are_no_plain_words_are_not_shown() -> None:
    house = House()
    await house.job()
    names = [SECRET + " in a name", "x" * 101, "a\nb", ""]
    calls = [tool(f"{SECRET} {n}", name) for n, name in enumerate(names)]
    await house.happens(started(), *calls, complete(outcome="failed", reason=f"{SECRET} reason"))
    await house.traces.close()
    assert [span.name for span in house.list.spans] == ["execute_tool other"] * 4 + ["invoke_agent claude"]
    assert [span.error for span in house.list.spans] == ["unfinished"] * 4 + ["other"]
    assert SECRET not in json.dumps([asdict(span) for span in house.list.spans])


async def test_a_job_of_very_many_tool_calls_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOOLS_MAX", 10)
    house = House()
    await house.job()
    await house.happens(started(), *[e for n in range(30) for e in (tool(f"t{n}"), result(f"t{n}"))], complete())
    await house.traces.close()
    assert len(house.list.spans) == 11
    assert house.list.spans[-1].attributes["pilothouse.tools.left_out"] == 20


async def test_what_the_caller_does_not_sample_is_not_made() -> None:
    house = House()
    await house.job(trace=str(replace(CALLER, sampled=False)))
    await house.happens(chat(), started(), complete())
    await house.traces.called(call(), await job_of(house))
    assert await house.spans() == {}


async def test_a_model_call_is_below_its_job() -> None:
    house = House()
    await house.job(trace=str(CALLER))
    await house.happens(chat(), started(), complete())
    await house.traces.called(call(), await job_of(house))
    await house.traces.called(replace(call(), n=2, refused="budget", status=402, model="a b"), await job_of(house))
    await house.traces.called(replace(call(), n=3), None)  # of no job
    spans = await house.spans()
    span, refused = spans["chat m-1"], spans["chat other"]
    assert span.parent == spans["invoke_agent claude"].place.span
    assert span.place.trace == CALLER.trace
    assert (span.kind, span.error, round(span.end - span.start, 3)) == ("client", "", 1.5)
    assert span.attributes["gen_ai.usage.cache_read.input_tokens"] == 3
    assert span.attributes["gen_ai.provider.name"] == "demo"
    assert refused.error == "budget"
    assert refused.place.span != span.place.span


def call() -> UsageRecord:
    return UsageRecord("p", 1, S, JobId("j"), "m-1", 200, 1, 2, 3, 4, 0.1, at=1_700_000_000.0, ms=1500)


async def job_of(house: House) -> JobRecord:
    doc = await house.store.get("job", "j")
    assert doc is not None
    return records.load(doc, JobRecord)


def test_a_request_goes_on_with_the_callers_trace_or_begins_one() -> None:
    house = House()
    place, parent = house.traces.begins([str(CALLER)])
    assert (place.trace, parent) == (CALLER.trace, CALLER)
    assert place.span != CALLER.span
    house.traces.request(place, parent, "POST", "/api/jobs/{id}", 503, 1.0, 0.5)
    span = house.list.spans[0]
    assert (span.name, span.parent, span.remote, span.kind, span.error) == (
        "POST /api/jobs/{id}", CALLER.span, True, "server", "503",
    )  # fmt: skip
    assert span.end >= span.start
    for wrong in ([], ["nonsense"], [str(CALLER)] * 2):
        place, parent = house.traces.begins(wrong)
        assert parent is None
        assert parse([str(place)]) == place
        assert place.trace != CALLER.trace


async def test_a_job_that_is_deleted_meanwhile_has_no_span() -> None:
    house = House()
    await house.happens(chat(), started(), complete())
    assert await house.spans() == {}
    assert await house.store.commit(Put("x", "y", b"")) is not None
