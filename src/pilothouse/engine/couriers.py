"""Sends what is due: a lane for each target, so that a receiver that is slow or dead keeps nobody else waiting.

A lane has `WIDTH` attempts under way at most, one alone while its receiver fails. Each attempt is bounded in time and
size by the poster. The answer is kept before the next attempt is planned.
"""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pilothouse.core.backoff import NOTICE, WEBHOOK, retry_after
from pilothouse.core.errors import NotFound, PilothouseError
from pilothouse.engine import records
from pilothouse.engine.deliveries import (
    ERROR_MAX,
    PENDING_MAX,
    Answer,
    Deliveries,
    DeliveryRecord,
    Kind,
    NotSent,
    Poster,
    Request,
    Sender,
    Withheld,
    again,
    kept,
)
from pilothouse.engine.kit import Note, silent
from pilothouse.engine.ports import Clock, EventStore, Op, StoreFailed

WIDTH = 4
STORE_AGAIN_S = 1.0
"""Pause before an answer is kept again that the store did not take. It is not sent again meanwhile."""
GONE = frozenset({404, 410})


@dataclass
class _Lane:
    """Of one target."""

    heap: list[tuple[float, str]] = field(default_factory=list)
    active: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    width: int = WIDTH
    keeping: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while it is counted how many are kept, and one more is."""
    task: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self.heap) + len(self.active)


class Couriers:
    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        poster: Poster,
        senders: dict[Kind, Sender],
        note: Note = silent,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.deliveries = Deliveries(store)
        self._store = store
        self._clock = clock
        self._poster = poster
        self._senders = senders
        self._note = note
        self._chance = chance
        self._lanes: dict[str, _Lane] = {}

    async def start(self) -> None:
        """Takes up what a server before this one left."""
        for at, target, id in await self.deliveries.due():
            self._add(target, id, at)

    async def close(self) -> None:
        """What is under way is cut off, and sent again by the next server."""
        tasks = [t for lane in self._lanes.values() for t in (lane.task, *lane.active.values()) if t is not None]
        self._lanes.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- promising ---

    async def promise(self, made: Sequence[DeliveryRecord]) -> list[Op]:
        """To be committed with what they follow from; then call `accepted`."""
        ops: list[Op] = []
        for record in made:
            if self.waiting(record.target) >= PENDING_MAX:
                record.state, record.error = "dead", f"More than {PENDING_MAX} wait for this receiver."
                ops += kept(record)
                continue
            record.next_at = record.created_at if record.next_at is None else record.next_at
            ops += kept(record)
        return ops + await self.deliveries.overflow([record for record in made if record.state == "dead"])

    def accepted(self, made: Sequence[DeliveryRecord]) -> None:
        for record in made:
            if record.state == "pending":
                self._add(record.target, record.id, record.next_at or 0.0)

    def waiting(self, target: str) -> int:
        return len(self._lanes.get(target, ()))

    async def replay(self, record: DeliveryRecord) -> DeliveryRecord:
        """Raises Conflict."""
        renewed, ops = again(record, self._clock.now())
        await self._store.commit(*ops)
        self.accepted([renewed])
        return renewed

    async def replay_dead(self, target: str) -> int:
        """All dead letters of a target, the oldest first. How many."""
        count, room = 0, PENDING_MAX - self.waiting(target)
        found = await self.deliveries.page(target, "dead", "", max(room, 1))
        for record in reversed(found[: max(room, 0)]):
            await self.replay(record)
            count += 1
        return count

    def drop(self, target: str) -> None:
        """Nothing of it is sent any more."""
        lane = self._lanes.pop(target, None)
        if lane is not None:
            for task in (lane.task, *lane.active.values()):
                if task is not None and task is not asyncio.current_task():
                    task.cancel()

    # --- lanes ---

    def _add(self, target: str, id: str, at: float) -> None:
        lane = self._lanes.setdefault(target, _Lane())
        heapq.heappush(lane.heap, (at, id))
        lane.wake.set()
        if lane.task is None or lane.task.done():
            lane.task = asyncio.get_running_loop().create_task(self._run(target, lane), name="courier")

    async def _run(self, target: str, lane: _Lane) -> None:
        while lane.heap or lane.active:
            lane.wake.clear()
            now = self._clock.now()
            while lane.heap and lane.heap[0][0] <= now and len(lane.active) < lane.width:
                _, id = heapq.heappop(lane.heap)
                if id not in lane.active:
                    lane.active[id] = asyncio.get_running_loop().create_task(self._deliver(lane, id), name="delivery")
            waits: set[asyncio.Future[object]] = {asyncio.ensure_future(lane.wake.wait())}
            if lane.heap and len(lane.active) < lane.width:
                waits.add(asyncio.ensure_future(self._clock.sleep(max(lane.heap[0][0] - now, 0.0))))
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for wait in waits:
                    wait.cancel()
        if self._lanes.get(target) is lane:
            del self._lanes[target]

    async def _deliver(self, lane: _Lane, id: str) -> None:
        try:
            record = await self._attempted(lane, id)
            if record is not None:
                lane.width = WIDTH if record.state == "delivered" else 1
                if record.state == "pending" and record.next_at is not None:
                    heapq.heappush(lane.heap, (record.next_at, id))
        except (StoreFailed, NotFound) as error:
            self._note("delivery_waits", delivery=id, error=str(error)[:ERROR_MAX])
            heapq.heappush(lane.heap, (self._clock.now() + STORE_AGAIN_S, id))
        except Exception as error:  # noqa: BLE001  one that ended its lane in silence would lose all behind it
            self._note("delivery_failed", delivery=id, error=repr(error)[:500])
            heapq.heappush(lane.heap, (self._clock.now() + NOTICE.most_s, id))
        finally:
            lane.active.pop(id, None)
            lane.wake.set()

    async def _attempted(self, lane: _Lane, id: str) -> DeliveryRecord | None:
        """One attempt, and what came of it, kept. None: it is not there any more."""
        record = await self.deliveries.get(id)
        if record is None or record.state != "pending":
            return None
        sender = self._senders[record.kind]
        answer: Answer | None = None
        try:
            request: Request | Withheld = await sender.request(record)
            if isinstance(request, Withheld):
                ended = records.copy(record, state="dead" if request.dead else "withheld", error=request.why)
                return await self._keep(lane, ended, record)
            answer = await self._poster.post(request)
            error = "" if 200 <= answer.status < 300 else _said(answer.status)
        except NotSent as failed:
            error = str(failed)
        except PilothouseError as failed:  # it could not even be tried: the key file is away
            error = failed.message
        ended = self._judged(record, sender, answer, error[:ERROR_MAX])
        done = await self._keep(lane, ended, record)
        if answer is not None and answer.status in GONE:
            await sender.gone(ended, answer.status)
        return done

    def _judged(self, record: DeliveryRecord, sender: Sender, answer: Answer | None, error: str) -> DeliveryRecord:
        now = self._clock.now()
        ended = records.copy(
            record, attempts=record.attempts + 1, last_at=now, status=answer.status if answer else None, error=error
        )
        if not error:
            ended.state, ended.next_at = "delivered", None
            return ended
        wished = retry_after(answer.retry_after, now) if answer is not None and answer.retry_after else None
        patience = WEBHOOK if record.kind == "webhook" else NOTICE
        pause = patience.pause(ended.attempts, self._chance(), wished)
        late = pause is not None and record.expires_at is not None and now + pause > record.expires_at
        if pause is None or late or not sender.patience(ended.status):
            ended.state, ended.next_at = "dead", None
        else:
            ended.next_at = now + pause
        return ended

    async def _keep(self, lane: _Lane, ended: DeliveryRecord, before: DeliveryRecord) -> DeliveryRecord:
        while True:
            try:
                async with lane.keeping:
                    if await self._store.get("delivery", ended.id) is None:
                        return ended  # its target was removed meanwhile
                    await self._store.commit(*kept(ended, before.state), *await self.deliveries.overflow([ended]))
                return ended
            except StoreFailed as error:
                self._note("delivery_waits", delivery=ended.id, error=str(error)[:ERROR_MAX])
                await self._clock.sleep(STORE_AGAIN_S)


def _said(status: int) -> str:
    if 300 <= status < 400:
        return f"It answered {status}: redirects are not followed."
    return f"It answered {status}."
