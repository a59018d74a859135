"""The promises, asked of the log: it is the truth, and every viewer's witness must be the same to the byte."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
from collections import Counter
from collections.abc import Callable
from typing import Any

import httpx

from tests.faults import processes, script
from tests.faults.figures import Figures
from tests.faults.house import House
from tests.faults.script import Job
from tests.faults.viewers import Viewer, digest, fetch
from tests.faults.work import Worked

PATIENCE_S = 40.0
CENT = 0.01
Excused = Callable[[str, float, float, bool], bool]
Event = dict[str, Any]


async def session(
    house: House, figures: Figures, worked: Worked, excused: Excused, disk_was_full: bool = False
) -> None:
    """Everything about one session, at its end. The server must be up. `disk_was_full`: while it worked."""
    bodies = await _log(house, worked.id)
    events: list[Event] = [json.loads(body) for body in bodies]
    figures.events += len(events)
    ran = await _ran(house, worked.id)
    look = Look(figures, worked, events)
    look.log(_file(house, worked.id), bodies)
    await asyncio.gather(*(witness(figures, viewer, bodies) for viewer in worked.viewers))
    for job in worked.jobs:
        look.job(job, excused)
    look.approvals()
    look.commands(ran, disk_was_full)


async def stopped(house: House, figures: Figures, worked: Worked) -> None:
    """Of a session that is stopped nothing goes on."""
    inside = house.inside(worked.id)
    await worked.insist("POST", f"/api/sessions/{worked.id}/stop", {})
    deadline = asyncio.get_running_loop().time() + PATIENCE_S
    while left := [pid for pid in inside if processes.alive(pid)]:
        if asyncio.get_running_loop().time() > deadline:
            figures.breach("left", f"{worked.name} {worked.id}: {[inside[pid][:80] for pid in left]} after its stop")
            return
        await asyncio.sleep(0.1)


async def _log(house: House, session: str) -> list[bytes]:
    """The whole log through the API."""
    while True:
        bodies: list[bytes] = []
        with contextlib.suppress(OSError, httpx.HTTPError):
            async with house.http(30) as http:
                while page := (await fetch(http, session, len(bodies))).events:
                    bodies += [bytes(event) for event in page]
            return bodies
        await asyncio.sleep(0.2)


def _file(house: House, session: str) -> list[bytes]:
    """The same from the file."""
    sql = "select body from events join logs using (log) where session = ? order by seq"
    return [bytes(body) for (body,) in _select(house, sql, session)]


async def _ran(house: House, session: str) -> Counter[int]:
    """How often each command ran."""
    said = ""
    for _ in range(100):
        with contextlib.suppress(OSError, httpx.HTTPError):
            async with house.http(30) as http:
                answer = await http.get(f"/api/sessions/{session}/files/content", params={"path": script.RAN})
                said = answer.text[:300]
                if answer.status_code == 200:
                    return Counter(script.lines(answer.text))
                if answer.status_code == 404:
                    return Counter()
        await asyncio.sleep(0.2)
    raise AssertionError(f"{session}: its files cannot be read: {said}")


async def witness(figures: Figures, viewer: Viewer, bodies: list[bytes]) -> None:
    if not await viewer.reaches(len(bodies), PATIENCE_S):
        figures.breach("never whole", f"{viewer.name} of {viewer.session}: {len(viewer.seen)} of {len(bodies)}")
    figures.witnessed += len(viewer.seen)
    for seq, (body, seen) in enumerate(zip(bodies, viewer.seen, strict=False), 1):
        if seen and digest(body) != seen:
            figures.breach("differs", f"{viewer.name} of {viewer.session}: event {seq}")
    if len(viewer.seen) > len(bodies):
        figures.breach("differs", f"{viewer.name} of {viewer.session}: {len(viewer.seen)} events of {len(bodies)}")


class Look:
    """At one session's log."""

    def __init__(self, figures: Figures, worked: Worked, events: list[Event]) -> None:
        self._figures = figures
        self._worked = worked
        self._events = events

    def _breach(self, kind: str, text: str) -> None:
        self._figures.breach(kind, f"{self._worked.name} {self._worked.id}: {text}")

    def log(self, file: list[bytes], api: list[bytes]) -> None:
        if file != api:
            self._breach("log", f"the file has {len(file)} events, the API {len(api)}, or they differ")
        if [e["seq"] for e in self._events] != list(range(1, len(self._events) + 1)):
            self._breach("log", "its numbers have holes or repeats")
        wishes = Counter(e["clientMessageId"] for e in self._events if e["type"] == "chat" and "clientMessageId" in e)
        if wishes != Counter(f"job-{job.n}" for job in self._worked.jobs):
            self._breach("prompt", f"prompts in the log: {wishes}")
        self._figures.resets += sum(e["type"] == "stream_reset" for e in self._events)

    def job(self, job: Job, excused: Excused) -> None:
        mine = [e for e in self._events if e.get("jobId") == job.id]
        kinds = Counter(e["type"] for e in mine)
        if kinds["complete"] != 1 or mine[-1]["type"] != "complete" or kinds["job_started"] > 1:
            if not self._worked.dead:
                last = mine[-1]["type"] if mine else "none"
                self._breach("complete", f"job {job.n} {job.id}: {dict(kinds)}, last {last}")
            return
        done = mine[-1]
        if done["outcome"] != "succeeded" and not done.get("reason"):
            self._breach("no reason", f"job {job.n}: {done}")
        if done["outcome"] == "failed" and not done["result"]:
            self._breach("no reason", f"job {job.n}: {done}")
        if job.interrupted:
            return
        if done["outcome"] != "succeeded":
            if done.get("reason") == "bug" or not excused(self._worked.id, job.began, job.ended, job.begun):
                self._breach(
                    "no cause", f"job {job.n} {job.id}: {done['outcome']} {done.get('reason')} {done['result']}"
                )
        elif _shown(mine).count(job.last_words) != 1 and "denied" not in str(job.answered):
            self._breach("text", f"job {job.n} {job.id}: {_shown(mine)[-300:]!r}")

    def approvals(self) -> None:
        asked = Counter(e["approvalId"] for e in self._events if e["type"] == "approval_required")
        ended = Counter(e["approvalId"] for e in self._events if e["type"] == "approval_resolved")
        self._figures.approvals += len(asked)
        if asked != ended or any(n != 1 for n in asked.values()):
            self._breach("approval", f"asked and not resolved once: {(asked - ended) + (ended - asked)}")

    def _not_run(self, job: Job, number: int, disk_was_full: bool) -> None:
        """A session's disk is an image that takes the host's space only when the kernel writes it out: what was on its
        way while the host's disk was full is lost, though the command had been told that it is written."""
        if disk_was_full:
            self._figures.lost_on_disk += 1
        else:
            self._breach("not run", f"job {job.n}: command {number}")

    def commands(self, ran: Counter[int], disk_was_full: bool = False) -> None:
        self._figures.commands_run += ran.total()
        calls: dict[str, int] = {}
        outcomes: dict[int, str] = {}
        cards: dict[str, int] = {}
        good: set[int] = set()
        for e in self._events:
            if e["type"] == "tool_use" and (number := script.number_of(e["input"])) is not None:
                calls[e["toolId"]] = number
            elif e["type"] == "approval_required" and (number := script.number_of(e["input"])) is not None:
                cards[e["approvalId"]] = number
            elif e["type"] == "approval_resolved" and e["approvalId"] in cards:
                outcomes[cards[e["approvalId"]]] = e["outcome"]
            elif e["type"] == "tool_result" and not e["isError"] and e["toolId"] in calls:
                good.add(calls[e["toolId"]])
        for job in self._worked.jobs:
            for number, plan in job.plans.items():
                if ran[number] > 1:
                    self._breach("ran twice", f"job {job.n}: command {number} ran {ran[number]} times")
                if ran[number] and plan != "free" and outcomes.get(number) != "approved":
                    self._breach("ran unallowed", f"job {job.n}: {number} ({plan}): {outcomes.get(number)}")
                if ran[number] and plan in {"deny", "never"}:
                    self._breach("ran unallowed", f"job {job.n}: {number} was to be {plan}")
                if number in good and not ran[number]:
                    self._not_run(job, number, disk_was_full)
                said = job.answered.get(number, set())
                if len(said) > 1 or (said and outcomes.get(number) not in said):
                    self._breach("approval", f"job {job.n}: {number}: told {said}, the log has {outcomes.get(number)}")
        if unknown := set(ran) - {number for job in self._worked.jobs for number in job.plans}:
            self._breach("ran unallowed", f"nobody asked for {unknown}")


def _shown(events: list[Event]) -> str:
    """The text as a page shows it: what was taken back is gone."""
    text: dict[str, str] = {}
    for event in events:
        if event["type"] == "stream_reset":
            text[event["messageId"]] = ""
        elif event["type"] == "stream":
            text[event["messageId"]] = text.get(event["messageId"], "") + event["content"]
    return "\n".join(text.values())


async def usage(house: House, figures: Figures) -> None:
    """Every call that was metered is in the ledger, once, as metered; no job was charged more than its calls cost."""
    spool: dict[str, dict[str, Any]] = {}
    for path in (house.home / "proxy").glob("usage-*.ndjson"):
        for line in path.read_text().splitlines():
            try:
                record = json.loads(line)
            except ValueError:  # as far as the full disk let it come before its proxy was killed
                if not figures.injected["disk-full"]:
                    figures.breach("usage", f"a record that ends in the middle: {line[:80]}")
                continue
            key = f"{path.stem.removeprefix('usage-')}:{record['n']:012d}"
            if key in spool:
                figures.breach("usage", f"metered twice: {record}")
            spool[key] = record
    figures.calls = len(spool)
    taken: dict[str, bytes] = {}
    for _ in range(100):
        taken = dict(_select(house, "select id, doc from docs where kind = 'usage'"))
        if taken.keys() >= spool.keys():
            break
        await asyncio.sleep(0.1)
    ledger = {key: json.loads(doc) for key, doc in taken.items()}
    wrong = [key for key, record in spool.items() if ledger.get(key) != record]
    unknown = len(ledger.keys() - spool.keys())  # only a proxy that dies while the disk is full leaves such
    if wrong or (unknown and not figures.injected["disk-full"]):
        figures.breach("usage", f"metered {len(spool)}, in the ledger {len(taken)}; not as metered: {wrong}")
    cost: Counter[str] = Counter()
    for record in (ledger | spool).values():
        cost[record["job"] or ""] += record["cost_usd"]
    for job, doc in _select(house, "select id, doc from docs where kind = 'job'"):
        charged = json.loads(doc).get("totalCost", 0.0)
        if charged > cost[job] + CENT / 1000:
            figures.breach("usage", f"job {job} was charged {charged}, its calls cost {cost[job]}")


def _select(house: House, sql: str, *values: str) -> list[Any]:
    """From the store's file, past our own code."""
    uri = f"file:{house.home}/log.sqlite?mode=ro"
    with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=20)) as db:
        return db.execute(sql, values).fetchall()
