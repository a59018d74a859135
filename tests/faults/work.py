"""One session under fire: its viewers, its jobs one after another, the person who answers its approvals."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.faults import script
from tests.faults.figures import Figures
from tests.faults.house import House
from tests.faults.plan import Point
from tests.faults.script import Job
from tests.faults.viewers import Viewer, crowd

AGAIN_S = 0.1
ACCEPT_S = 90.0
"""A prompt is accepted within this, whatever happens meanwhile."""
JOB_S = 150.0
"""And has an end within this: the job's own time limit and what it takes to enforce it."""
HELD_S = 1.0
"""How long a job stays at a point for a fault that is waiting for it."""

At = Callable[["Worked", Point], Awaitable[None]]
Event = dict[str, Any]


@dataclass(eq=False)
class Worked:
    """`at` is told when a job of the session is at a point; it returns when the fault that waited for it is done."""

    name: str
    agent: str
    house: House
    figures: Figures
    dice: random.Random
    at: At
    id: str = ""
    jobs: list[Job] = field(default_factory=list)
    viewers: list[Viewer] = field(default_factory=list)
    current: Job | None = None
    dead: bool = False
    """A job of it hung: nothing more is asked of it."""
    _numbers: int = 1
    _ended: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _reached: set[tuple[int, Point]] = field(default_factory=set)
    _calls: dict[str, int] = field(default_factory=dict)
    _completes: dict[str, Event] = field(default_factory=dict)

    async def open(self) -> None:
        self.id = (await self.insist("POST", "/api/sessions", {"agent": self.agent, "title": self.name}))["id"]
        self.figures.sessions[self.agent] += 1
        self.viewers = crowd(self.id, self.house.where, self.figures.breach, self._heard)
        self.figures.viewers += len(self.viewers)
        for viewer in self.viewers:
            viewer.start()

    async def work(self, most: int, until: Callable[[], bool]) -> None:
        """Jobs, one after another, until that is so or there were `most`."""
        while not until() and len(self.jobs) < most and not self.dead:
            await self._one(script.make(len(self.jobs) + 1, self.agent, self.dice, self._numbers))

    async def close(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for viewer in self.viewers:
            self.figures.connects += viewer.connects
            await viewer.close()

    # --- a job

    async def _one(self, job: Job) -> None:
        self._numbers += len(job.plans)
        self.jobs.append(job)
        self.current = job
        self.figures.plans.update(job.plans.values())
        self._ended.clear()
        job.began = time.monotonic()
        body = {"prompt": job.prompt, "clientMessageId": f"job-{job.n}", **job.options}
        made = await self.insist("POST", f"/api/sessions/{self.id}/jobs", body)
        job.id = made["id"]
        self._point("start")
        if (done := self._completes.get(job.id)) is not None:  # it ended before its acceptance was answered
            self._complete(job, done)
        try:
            async with asyncio.timeout(JOB_S):
                await self._ended.wait()
        except TimeoutError:
            self.dead = True
            self.figures.breach("hung", f"{self.name} {self.id} job {job.n} {job.id}: no end after {JOB_S:.0f} s")
        job.ended = time.monotonic()
        self.figures.outcomes[job.outcome + (f" ({job.reason})" if job.reason else "") or "hung"] += 1
        for hold in job.holds:
            await self.house.release(hold)
        self.current = None

    async def insist(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """As a careful client does: again with the same idempotent wish, until there is an answer."""
        end = time.monotonic() + ACCEPT_S
        said = ""
        while time.monotonic() < end:
            with contextlib.suppress(OSError, httpx.HTTPError):
                async with self.house.http() as http:
                    answer = await http.request(method, path, json=body)
                    if answer.status_code < 400:
                        found: dict[str, Any] = answer.json() if answer.content else {}
                        return found
                    said = answer.text[:300]
                    if answer.status_code not in {429, 500, 503}:
                        break
                    if self.current is not None:
                        self.current.refused += 1
            await asyncio.sleep(AGAIN_S)
        raise AssertionError(f"{self.name}: {method} {path}: no answer: {said}")

    # --- what the eye sees

    def _heard(self, event: Event) -> None:
        job = self.current
        kind = event["type"]
        if kind == "approval_required":
            self._later(self._answer(event))
        if kind == "tool_use" and (number := script.number_of(event["input"])) is not None:
            self._calls[event["toolId"]] = number
        if kind == "complete":
            self._completes[event["jobId"]] = event
        if job is None or event.get("jobId") not in {job.id, None}:
            return
        if kind == "job_started":
            job.begun = True
        elif kind == "stream":
            self._point("stream", job.holds[:1])
        elif kind == "tool_use":
            self._point("tool")
        elif kind == "tool_result" and self._calls.get(event["toolId"]) == max(job.plans):
            self._point("end", job.holds[1:])
        elif kind == "complete" and event.get("jobId") == job.id:
            self._complete(job, event)

    def _complete(self, job: Job, event: Event) -> None:
        job.outcome, job.result, job.reason = event["outcome"], event["result"], event.get("reason")
        self._ended.set()

    def _point(self, point: Point, holds: tuple[str, ...] = ()) -> None:
        """Once per job and point. Whoever waits at a hold of the script goes on when the fault has been."""
        assert self.current is not None
        key = (self.current.n, point)
        if key not in self._reached:
            self._reached.add(key)
            self._later(self._pass(point, holds))

    async def _pass(self, point: Point, holds: tuple[str, ...]) -> None:
        await self._wait_at(point)
        for hold in holds:
            await self.house.release(hold)

    async def _wait_at(self, point: Point) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HELD_S):
                await self.at(self, point)

    # --- the person

    async def _answer(self, card: Event) -> None:
        number = script.number_of(card["input"])
        job = next((j for j in self.jobs if number in j.plans), None)
        if number is None or job is None:
            return
        plan = job.plans[number]
        await self._wait_at("approval")
        if plan == "late":
            await asyncio.sleep(random.Random(card["approvalId"]).uniform(*script.LATE_S))
        if plan == "never":
            await asyncio.sleep(script.NEVER_S)
            job.interrupted = True
            await self._until_ended(job, lambda http: http.post(f"/api/jobs/{job.id}/interrupt"))
            return
        answers = {"deny": (False,), "both": (True, False)}.get(plan, (True,))
        self._later(self._wait_at("answer"))
        await asyncio.gather(*(self._decide(job, number, card, approved) for approved in answers))

    async def _decide(self, job: Job, number: int, card: Event, approved: bool) -> None:
        body = {"approved": approved, "inputHash": card["inputHash"]}

        async def ask(http: httpx.AsyncClient) -> httpx.Response:
            answer = await http.post(f"/api/approvals/{card['approvalId']}", json=body)
            if answer.status_code == 200:
                job.answered.setdefault(number, set()).add("approved" if approved else "denied")
            return answer

        await self._until_ended(job, ask)

    async def _until_ended(self, job: Job, ask: Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]) -> None:
        """Again until there is an answer that is final, or the job has ended without it."""
        while not job.outcome:
            with contextlib.suppress(OSError, httpx.HTTPError):
                async with self.house.http() as http:
                    if (await ask(http)).status_code in {200, 202, 404, 409}:
                        return
            await asyncio.sleep(AGAIN_S)

    def _later(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.figures.breach("unchecked", f"{self.name} {self.id}: {error!r}")
