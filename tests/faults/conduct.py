"""The run: sessions at work, faults that fall on them by plan, and after each the question whether all are whole."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from tests.faults import checks, plan
from tests.faults.figures import Figures
from tests.faults.house import House, ServerGone, house
from tests.faults.inject import Injector
from tests.faults.plan import Fault, Kind, Point
from tests.faults.viewers import Viewer
from tests.faults.work import Worked

POINT_S = 6.0
"""A fault waits this long for a job to come to its point, then falls at any."""
WHOLE_S = 40.0
"""Patience for a viewer to become whole. What is promised is a second; this only tells late from never."""
ANSWER_S = 120.0
"""And for the server to say anything, on a machine that does other things too."""
AFTER_S = 4.0
"""A job may still fail of a fault that ended this long ago (a proxy's restart is paused for longer)."""
AFTER: dict[str, float] = {"kill-proxy": 40.0, "kill-all": 40.0, "disk-full": 15.0, "clock-jump": 30.0}
TRIES, TRY_S = 6, 0.4
"""A fault that finds nobody to hit (the keeper is just dead, the agent is not started yet) looks again."""
FLIGHT = 8
"""Faults under way at one time."""
JOBS = 20
"""Of one session; then it is checked to the last byte and another one takes its place."""


@dataclass
class Harm:
    """When a fault was under way, and whose jobs it may have failed."""

    kind: Kind
    session: str
    began: float
    ended: float = float("inf")


@dataclass
class Waiting:
    """A fault that waits for a job to come to its point."""

    point: Point
    kind: Kind
    found: asyncio.Future[Worked]
    done: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Options:
    seed: int
    count: int
    """Faults that hit somebody."""
    kinds: Sequence[Kind]
    claude: int = 2
    echo: int = 4
    pace: float = 0.6
    say: Callable[[str], None] = lambda _: None


class Conductor:
    def __init__(self, home: House, options: Options, figures: Figures, ids: list[str]) -> None:
        self._house = home
        self._options = options
        self._figures = figures
        self._ids = ids
        self._inject = Injector(home)
        self._seats: dict[str, Worked] = {}
        self._waiting: list[Waiting] = []
        self._harms: list[Harm] = []
        self._alone = asyncio.Lock()
        self._over = False
        self._began = time.monotonic()

    async def run(self) -> None:
        seats = ["claude"] * self._options.claude + ["echo"] * self._options.echo
        workers = [asyncio.create_task(self._seat(n, agent)) for n, agent in enumerate(seats)]
        try:
            await self._faults(workers)
        finally:
            self._over = True
        await asyncio.gather(*workers)
        await asyncio.sleep(2)  # the last usage records
        await checks.usage(self._house, self._figures)

    # --- sessions

    async def _seat(self, n: int, agent: str) -> None:
        """One session after another, until the faults are over."""
        turn = 0
        while not self._over or turn == 0:
            turn += 1
            dice = random.Random(f"{self._options.seed}:session:{n}:{turn}")
            worked = Worked(f"{agent}-{n}.{turn}", agent, self._house, self._figures, dice, self._at)
            await worked.open()
            self._ids.append(worked.id)
            self._seats[f"{n}"] = worked
            try:
                await worked.work(JOBS, lambda: self._over)
                async with self._alone:  # the server stays up while it is asked
                    await checks.session(self._house, self._figures, worked, self._excused, self._disk_was_full(worked))
                    await checks.stopped(self._house, self._figures, worked)
            except Exception as error:
                self._figures.breach("unchecked", f"{worked.name} {worked.id}: {error!r}")
            finally:
                del self._seats[f"{n}"]
                await worked.close()

    async def _at(self, worked: Worked, point: Point) -> None:
        for waiting in self._waiting:
            if waiting.point == point and not waiting.found.done() and _may_hit(waiting.kind, worked):
                waiting.found.set_result(worked)
                await waiting.done.wait()
                return

    # --- faults

    async def _faults(self, workers: list[asyncio.Task[None]]) -> None:
        while len(self._seats) < len(workers):
            await asyncio.sleep(0.05)
            _raise_failed(workers)
        o = self._options
        planned = plan.plan(o.seed, 2 * o.count, o.kinds, o.pace)
        while faults := list(itertools.islice(planned, max(0, o.count - self._figures.faults))):
            await self._several(faults, workers)

    async def _several(self, faults: list[Fault], workers: list[asyncio.Task[None]]) -> None:
        """Those that found nobody to hit are made up for by the next."""
        flight = asyncio.Semaphore(FLIGHT)
        under_way: set[asyncio.Task[None]] = set()
        for fault in faults:
            await asyncio.sleep(fault.pause)
            await flight.acquire()
            _raise_failed([*workers, *under_way])
            task = asyncio.create_task(self._one(fault, flight))
            under_way.add(task)
        await asyncio.gather(*under_way)

    async def _one(self, fault: Fault, flight: asyncio.Semaphore) -> None:
        try:
            async with self._alone if fault.kind.alone else contextlib.nullcontext():
                await self._fall(fault)
        except ServerGone as gone:
            self._figures.breach("server", f"{fault.line()}: {gone}")
            raise
        except Exception as error:
            self._figures.breach("unchecked", f"{fault.line()}: {error!r}")
        finally:
            flight.release()

    async def _fall(self, fault: Fault) -> None:
        dice = random.Random(fault.dice)
        target, waiting = await self._target(fault, dice)
        try:
            await asyncio.sleep(fault.delay)
            harm = Harm(fault.kind, target.id, time.monotonic())
            self._harms.append(harm)
            began = time.monotonic() - self._began
            task = asyncio.ensure_future(self._inject(fault, target, dice))
            if waiting is not None:
                await asyncio.wait({task}, timeout=0.3)
                waiting.done.set()
            hit = await task
            for _ in range(TRIES):
                if hit:
                    break
                await asyncio.sleep(TRY_S)
                hit = await self._inject(fault, target, dice)
        finally:
            if waiting is not None:
                waiting.done.set()
                self._waiting.remove(waiting)
        at = fault.point if waiting is not None and waiting.found.done() else "any"
        if fault.kind.returns:
            down = time.monotonic()
            back = await self._house.back()
            harm.ended = time.monotonic()
            after = f"started_in={back - down:.2f} " + await self._returned(down, back)
        else:
            harm.ended = time.monotonic()
            after = await self._recovered() if hit else "missed"
        (self._figures.injected if hit else self._figures.missed)[fault.kind.name] += 1
        if hit:
            self._figures.points[at] += 1
        done = time.monotonic() - self._began
        self._options.say(f"{began:8.2f}-{done:.2f} {fault.line()} of={target.name} at={at} hit={hit} {after}")

    async def _target(self, fault: Fault, dice: random.Random) -> tuple[Worked, Waiting | None]:
        seats = [w for _, w in sorted(self._seats.items()) if _may_hit(fault.kind, w)]
        while not seats:
            await asyncio.sleep(0.05)
            seats = list(self._seats.values())
        if fault.point == "any":
            return dice.choice(seats), None
        waiting = Waiting(fault.point, fault.kind, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(POINT_S):
                return await asyncio.shield(waiting.found), waiting
        return dice.choice(seats), waiting

    def _excused(self, session: str, began: float, ended: float, begun: bool) -> bool:
        """Whether a job that ran then may have failed of a fault."""
        for harm in self._harms:
            over = harm.ended + AFTER.get(harm.kind.name, AFTER_S)
            if harm.began > ended or over < began:
                continue
            match harm.kind.excuse:
                case "all":
                    return True
                case "session" if harm.session == session:
                    return True
                case "unstarted" if not begun:
                    return True
        return False

    def _disk_was_full(self, worked: Worked) -> bool:
        began = worked.jobs[0].began if worked.jobs else 0.0
        return any(harm.kind.name == "disk-full" and harm.ended > began for harm in self._harms)

    # --- after a fault

    async def _heads(self) -> dict[str, int]:
        """How far each log is, by the log."""
        end = time.monotonic() + ANSWER_S
        while True:
            with contextlib.suppress(OSError, httpx.HTTPError):
                async with self._house.http() as http:
                    answer = await http.get("/api/sessions", params={"limit": 200})
                    if answer.status_code == 200:
                        return {s["id"]: s["head"] for s in answer.json()["items"]}
            if time.monotonic() > end:
                raise ServerGone("nothing answers")
            await asyncio.sleep(0.05)

    def _watching(self) -> list[Viewer]:
        return [viewer for worked in self._seats.values() for viewer in worked.viewers]

    async def _returned(self, down: float, back: float) -> str:
        """From the server's return until each viewer is connected to it and has all that the log had then."""
        heads = await self._heads()
        self._figures.returns += 1
        calm = self._house.relay.calm < asyncio.get_running_loop().time()
        viewers = [v for v in self._watching() if v.session in heads and (calm or not v.relayed)]
        times = await asyncio.gather(*(v.whole(heads[v.session], down, back, WHOLE_S) for v in viewers))
        longest = 0.0
        for viewer, took in zip(viewers, times, strict=True):
            if took is None:
                if viewer.session in {w.id for w in self._seats.values()}:
                    self._never(viewer, heads[viewer.session])
            else:
                (self._figures.whole_slow if viewer.slow else self._figures.whole).append(took)
                longest = max(longest, took)
        return f"viewers={len(viewers)} whole_after={longest:.2f}"

    async def _recovered(self) -> str:
        began, downs, up = time.monotonic(), self._house.downs, self._house.up
        heads = await self._heads()
        viewers = [v for v in self._watching() if v.session in heads]
        done = await asyncio.gather(*(v.reaches(heads[v.session], WHOLE_S) for v in viewers))
        for viewer, good in zip(viewers, done, strict=True):
            if not good and viewer.session in {w.id for w in self._seats.values()}:
                self._never(viewer, heads[viewer.session])
        took = time.monotonic() - began
        if up and downs == self._house.downs:  # else it was the server's absence that was waited for
            self._figures.recovered.append(took)
        return f"whole_after={took:.2f}"

    def _never(self, viewer: Viewer, head: int) -> None:
        text = f"{viewer.name} of {viewer.session}: {len(viewer.seen)} of {head} after {WHOLE_S:.0f} s"
        self._figures.breach("never whole", text)


def _may_hit(kind: Kind, worked: Worked) -> bool:
    """Only the real agent is a program of its own."""
    return worked.agent == "claude" or not kind.name.endswith("-cli")


def _raise_failed(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        if task.done() and not task.cancelled() and (error := task.exception()) is not None:
            raise error


async def run(options: Options, place: Path, keep: Path | None = None) -> Figures:
    """The whole run in an empty directory of its own. `keep`: where logs and store are left."""
    figures = Figures(options.seed, options.say)
    ids: list[str] = []
    left: list[str] = []
    async with house(place, ids, left, keep) as home:
        usable = [kind for kind in options.kinds if home.disk or not kind.root]
        figures.left_out = [kind.name for kind in options.kinds if kind not in usable]
        chosen = Options(**{**options.__dict__, "kinds": usable})
        await Conductor(home, chosen, figures, ids).run()
    for text in left:
        figures.breach("left", text)
    figures.took = time.monotonic() - figures.began
    return figures
