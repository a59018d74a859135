"""What is counted of the logs, by a clock that is wound by hand."""

from __future__ import annotations

from pilothouse.core import events as ev
from pilothouse.core.ids import SessionId
from pilothouse.engine.metrics import Metrics
from pilothouse.engine.ports import Row
from pilothouse.engine.tap import KNOWN_MAX, Tap
from tests.engine.fakes import HandClock

S, T = SessionId("s"), SessionId("t")
STARTED = ev.JobStarted(
    job_id="j", agent="claude", agent_version="1", model="m", demo=True, permission_mode="manual", by="ann"
)
COMPLETE = ev.Complete(job_id="j", outcome="succeeded", result="", total_cost=0, duration_ms=1, num_turns=1)


class House:
    def __init__(self) -> None:
        self.metrics, self.clock = Metrics(), HandClock()
        self.tap = Tap(self.metrics, self.clock, lambda session: "echo" if session == T else "claude")
        self.seq = 0

    async def happens(self, *events: ev.Event, session: SessionId = S, after: float = 0) -> None:
        await self.clock.wind(after)
        rows = []
        for event in events:
            self.seq += 1
            rows.append(Row(self.seq, ev.seal(ev.encode(event), self.seq)))
        self.tap.rows(session, rows)


def text(job: str = "j") -> ev.Stream:
    return ev.Stream(job_id=job, content="x", message_id="m")


async def test_a_job_is_counted_from_its_prompt_to_its_end() -> None:
    house = House()
    m = house.metrics
    await house.happens(ev.Chat(job_id="j", message='"type":"complete"', by="ann"))
    await house.happens(STARTED, after=2)
    await house.happens(text(), after=3)
    await house.happens(text(), after=1)
    await house.happens(ev.ToolResult(job_id="j", tool_id="t", result="", is_error=True))
    await house.happens(COMPLETE, after=4)
    assert (m.accepted.value("claude"), m.started.value("claude", "true")) == (1, 1)
    assert m.ended.value("claude", "true", "succeeded") == 1
    assert m.tools.value("claude", "error") == 1
    sums = {spread.name: spread.family().samples[-2].value for spread in (m.queued_s, m.first_s, m.job_s)}
    assert sums == {
        "pilothouse_job_wait_seconds": 2,
        "pilothouse_job_first_token_seconds": 3,
        "pilothouse_job_duration_seconds": 8,
    }
    assert m.first_s.count("claude", "true") == 1
    assert m.rows.value("stream") == 2
    assert m.row_bytes.total > 100


async def test_a_message_that_joins_a_job_is_none_of_its_own() -> None:
    house = House()
    await house.happens(ev.Chat(job_id="j", message="more", by="ann", steer=True))
    assert house.metrics.accepted.total == 0


async def test_the_end_of_a_job_that_another_server_began_is_counted() -> None:
    house = House()
    await house.happens(text(), ev.Complete(
        job_id="old", outcome="failed", result="", total_cost=0, duration_ms=1, num_turns=0
    ), session=T)  # fmt: skip
    assert house.metrics.ended.value("echo", "unknown", "failed") == 1
    assert house.metrics.job_s.family().samples == []


async def test_approvals_are_counted_with_their_wait() -> None:
    house = House()
    for id in ("a", "b"):
        await house.happens(ev.ApprovalRequired(
            approval_id=id, tool_id="t", tool="Bash", input={}, input_hash="", options=[], reason=""
        ))  # fmt: skip
    await house.happens(ev.ApprovalResolved(approval_id="a", outcome="denied", by="ann"), after=5)
    await house.happens(ev.ApprovalResolved(approval_id="of another server", outcome="denied", by="ann"))
    assert house.metrics.asked.total == 2
    assert house.metrics.decided.value("denied") == 2
    assert house.metrics.decided_s.count("denied") == 1


async def test_what_never_ends_is_forgotten() -> None:
    house = House()
    for n in range(KNOWN_MAX + 10):
        await house.happens(ev.Chat(job_id=str(n), message="x", by="ann"))
    assert len(house.tap._jobs) == KNOWN_MAX
