"""The short form: faults of every kind on the real programs, no promise broken. `make faults` is the long one.

The rest is about the harness: that it would say so.
"""

from __future__ import annotations

import dataclasses
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults import checks, conduct, plan, script
from tests.faults.__main__ import BEGIN, END, write
from tests.faults.figures import Figures
from tests.faults.house import House
from tests.faults.plan import KINDS
from tests.faults.script import Job
from tests.faults.viewers import Viewer, Where
from tests.faults.work import Worked

SEED = 11
FAULTS = 60
"""Each kind, most of them twice."""


@pytest.fixture
def place() -> Iterator[Path]:
    """Short, for the unix sockets in it."""
    made = Path(tempfile.mkdtemp(prefix="ph-", dir="/tmp"))
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def test_sixty_faults(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    kinds = [
        dataclasses.replace(kind, weight=1 if kind.alone else 2, longest=min(kind.longest, 2.0))
        for kind in KINDS.values()
    ]
    options = conduct.Options(SEED, FAULTS, kinds, claude=2, echo=3, pace=0.25, say=lines.append)
    figures = await conduct.run(options, place)
    with capsys.disabled():
        sys.stdout.write(
            f"\n[{figures.faults} faults in {figures.took:.0f} s, {figures.outcomes.total()} jobs, {figures.witnessed} "
            f"events witnessed; later than a second after a return: {figures.late()}]\n"
        )
    assert figures.breaches == [], "\n".join(lines)
    assert figures.faults >= 60, "\n".join(lines)
    assert figures.outcomes.total() >= 30
    assert figures.whole, "nobody was asked whether he is whole"


def test_a_plan_is_repeated_by_its_seed() -> None:
    kinds = list(KINDS.values())
    first, again, other = (list(plan.plan(seed, 200, kinds, 0.6)) for seed in (1, 1, 2))
    assert first == again
    assert first != other
    assert {fault.kind.name for fault in first} == set(KINDS)
    assert first[:50] == list(plan.plan(1, 50, kinds, 0.6))


# --- would it say so? ---


@pytest.mark.parametrize(
    ("numbers", "found"),
    [([1, 2, 3], []), ([1, 3], ["lost"]), ([1, 2, 2], ["doubled"]), ([1, 2, 3, -2], ["reordered"])],
)
def test_a_viewer_notices(numbers: list[int], found: list[str]) -> None:
    figures = Figures(0)
    viewer = Viewer("eye", "s", Where(0, 0, ""), figures.breach)
    for number in numbers:
        viewer._take(abs(number), b"another" if number < 0 else b"body %d" % number)
    assert [kind for kind, _ in figures.breaches] == found


async def test_bytes_that_differ_are_noticed() -> None:
    figures = Figures(0)
    viewer = Viewer("eye", "s", Where(0, 0, ""), figures.breach)
    for number in (1, 2, 3):
        viewer._take(number, b"%d" % number)
    await checks.witness(figures, viewer, [b"1", b"2", b"3"])
    assert figures.kept()
    await checks.witness(figures, viewer, [b"1", b"x", b"3"])
    assert [kind for kind, _ in figures.breaches] == ["differs"]


async def _at(worked: Worked, point: plan.Point) -> None: ...


COMMAND = {"command": script.command(7)}
GOOD: list[dict[str, Any]] = [
    {"type": "chat", "jobId": "j", "clientMessageId": "job-1"},
    {"type": "job_started", "jobId": "j"},
    {"type": "tool_use", "jobId": "j", "toolId": "t", "input": COMMAND},
    {"type": "approval_required", "jobId": "j", "approvalId": "a", "input": COMMAND},
    {"type": "approval_resolved", "jobId": "j", "approvalId": "a", "outcome": "approved"},
    {"type": "tool_result", "jobId": "j", "toolId": "t", "isError": False},
    {"type": "stream", "jobId": "j", "messageId": "m", "content": "finished-1."},
    {"type": "complete", "jobId": "j", "outcome": "succeeded", "result": "finished-1."},
]


def look(events: list[dict[str, Any]], ran: dict[int, int], decision: script.Plan = "approve") -> list[str]:
    """What is found in a log: kinds of breaches."""
    figures = Figures(0)
    events = [event | {"seq": n} for n, event in enumerate(events, 1)]
    job = Job(1, {7: decision}, "", {}, id="j", outcome="succeeded")
    house: House = object.__new__(House)
    worked = Worked("w", "echo", house, figures, random.Random(0), _at, id="s", jobs=[job])
    found = checks.Look(figures, worked, events)
    found.log([], [])
    found.job(job, lambda *_: False)
    found.approvals()
    found.commands(Counter(ran))
    return [kind for kind, _ in figures.breaches]


def without(kind: str) -> list[dict[str, Any]]:
    return [event for event in GOOD if event["type"] != kind]


def changed(kind: str, **fields: Any) -> list[dict[str, Any]]:
    return [event | fields if event["type"] == kind else event for event in GOOD]


def test_a_good_log_is_good() -> None:
    assert look(GOOD, {7: 1}) == []


@pytest.mark.parametrize(
    ("events", "ran", "decision", "found"),
    [
        (GOOD, {7: 2}, "approve", "ran twice"),
        (GOOD, {7: 0}, "approve", "not run"),
        (GOOD, {7: 1}, "deny", "ran unallowed"),
        (GOOD, {7: 1, 8: 1}, "approve", "ran unallowed"),
        (changed("approval_resolved", outcome="denied"), {7: 1}, "approve", "ran unallowed"),
        (without("approval_resolved"), {7: 1}, "approve", "approval"),
        (without("complete"), {7: 1}, "approve", "complete"),
        ([*GOOD, GOOD[-1]], {7: 1}, "approve", "complete"),
        ([*GOOD, GOOD[6]], {7: 1}, "approve", "complete"),
        ([GOOD[0], *GOOD], {7: 1}, "approve", "prompt"),
        ([*GOOD[:7], GOOD[6], GOOD[7]], {7: 1}, "approve", "text"),
        (changed("complete", outcome="failed", result="it broke", reason="agent_died"), {7: 1}, "approve", "no cause"),
        (changed("complete", outcome="failed", result="it broke"), {7: 1}, "approve", "no reason"),
    ],
)
def test_a_bad_log_is_noticed(
    events: list[dict[str, Any]], ran: dict[int, int], decision: script.Plan, found: str
) -> None:
    assert found in look(events, ran, decision)


def test_a_report_takes_the_place_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    figures = Figures(5)
    figures.whole += [0.1, 0.2, 1.5]
    write(page, figures)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert "| viewers later than one second | 1 of 3 |" in text
