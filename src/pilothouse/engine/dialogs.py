"""The channels that the server itself publishes to, `/dialog/JOB` and `/session/SESSION`: the log, as it grows.

A session that somebody follows by a channel has one watch, which follows its log like any viewer and writes every row
once for all: to the feed of the session, to that of the row's job, and to those of admins who follow everything. What
is behind reads the log. A subscription to a job that is not there yet, or not for its subscriber to see, waits for
`PENDING_S`; nobody learns which of the two it is.

A job that its caller named has two channels: one by its name, where events call it so, and one by its id.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.core import access, dialog
from pilothouse.core import events as ev
from pilothouse.core.access import Principal
from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.errors import BadRequest, Conflict, Forbidden, NotFound, PilothouseError, TooMany, Unavailable
from pilothouse.core.ids import JobId, SessionId
from pilothouse.core.namespaces import BUILT_IN, Namespace
from pilothouse.core.publish import Event, Taken
from pilothouse.engine import records
from pilothouse.engine.channels import Channels, Published
from pilothouse.engine.fanout import CATCH_UP, Feed, Lost, Stretch, Subscriber
from pilothouse.engine.live import whole
from pilothouse.engine.log import Gap, Log
from pilothouse.engine.ports import Row, StoreFailed
from pilothouse.engine.sessions import Session, Sessions

PENDING_S = 600.0
"""How long one may subscribe ahead of a job."""
PENDING_MAX = 5000
"""Of everybody."""
_JOB = re.compile(rb'"jobId":"([!-~]{1,100}?)"')


@dataclass
class Spot:
    """Where a subscription to one of these channels will begin, and what ends it."""

    who: Principal
    session: Session | None = None
    """None: of all, or of a job that is not there."""
    job: str = ""
    name: str = ""
    """As the channel has it: the job's id, or what its caller called it."""
    head: int = 0
    oldest: int = 1
    after: int | None = None
    gap: Lost | None = None
    wild: str = ""


class Following:
    """A live subscription. `spot.session` is set once there is one."""

    def __init__(self, spot: Spot, who: Subscriber, ended: Callable[[], None]) -> None:
        self.spot = spot
        self.who = who
        self.ended = ended
        self.stop: Callable[[], None] = lambda: None

    def end(self) -> None:
        """From here on nothing is written."""
        stop, self.stop = self.stop, lambda: None
        stop()


class _Past:
    """The log of a session, or of one job in it."""

    def __init__(self, log: Log, session: SessionId, job: str = "", name: str = "") -> None:
        self._log = log
        self._session = session
        self._job = job
        self._name = name

    async def after(self, cursor: int, upto: int) -> Stretch:
        page = await self._log.page(self._session, cursor, CATCH_UP)
        lost = Lost(cursor + 1, min(page.oldest - 1, upto)) if cursor + 1 < page.oldest else None
        rows = [row for row in page.rows if row.seq <= upto]
        told = [(row.seq, *dialog.told(self._called(row), row.seq)) for row in rows]
        found = [(seq, rest) for seq, job, rest in told if not self._job or job == self._name]
        return Stretch(found, rows[-1].seq if rows else upto, lost)

    def _called(self, row: Row) -> bytes:
        return row.body if self._name == self._job else dialog.renamed(row.body, self._job, self._name)


@dataclass
class _Watch:
    """Of one session."""

    organisation: str
    head: int
    feeds: dict[str, Feed] = field(default_factory=dict)
    """By the job's name in the channel; of the session itself under the empty name."""
    names: dict[str, str] = field(default_factory=dict)
    """By the ids of jobs that are followed by another name."""
    there: set[Following] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


class Dialogs:
    def __init__(self, sessions: Sessions, channels: Channels, now: Callable[[Principal], Principal]) -> None:
        """`now`: a caller with what its account may at this moment; raises Unauthenticated (`members.Members.now`)."""
        self._sessions = sessions
        self._now = now
        self._handlers = channels.handlers
        self._told = [one for name in sorted(BUILT_IN) if (one := channels.namespace(name)) and one.on_publish]
        """Namespaces with a handler that is told."""
        self._kit = sessions.kit
        self._log = sessions.kit.log
        self._fanout = channels.fanout
        self._watches: dict[SessionId, _Watch] = {}
        self._wild: dict[tuple[str, str], Feed] = {}
        """Of admins, by organisation and namespace."""
        self._pending: dict[str, set[Following]] = {}
        self._waiting = 0
        self._acting: set[asyncio.Task[None]] = set()
        self._log.on_rows.append(self._grown)
        sessions.on_name.append(self._named)

    async def close(self) -> None:
        for watch in list(self._watches.values()):
            if watch.task is not None:
                watch.task.cancel()
        for task in list(self._acting):
            task.cancel()

    @property
    def subscriptions(self) -> int:
        watched = sum(len(feed) for watch in self._watches.values() for feed in watch.feeds.values())
        return watched + sum(map(len, self._wild.values()))

    # --- subscribing ---

    async def place(self, who: Principal, pattern: Pattern, after: int | None, epoch: str | None) -> Spot:
        """Raises Forbidden, NotFound, BadRequest, TooMany, StoreFailed."""
        name = dialog.about(pattern)
        if pattern.wild:
            if "admin" not in who.scopes:
                raise Forbidden
            if after is not None:
                raise BadRequest("after: a wildcard has no cursor")
            return Spot(who, wild=pattern.namespace)
        if pattern.namespace == "session":
            return await self._at(Spot(who, await self._sessions.get(name, who)), 1, after, epoch)
        try:
            session, job = await self._sessions.of_job(name, who)
        except (NotFound, Forbidden):
            if self._waiting >= PENDING_MAX:
                raise TooMany("Too many wait for jobs that are not there.") from None
            return Spot(who, job=name, name=name, after=after)
        return await self._at(Spot(who, session, job.id, name), job.first_seq, after, epoch)

    async def _at(self, spot: Spot, first: int, after: int | None, epoch: str | None) -> Spot:
        assert spot.session is not None
        sid = spot.session.live.record.id
        spot.oldest = max(await self._log.oldest(sid), first)
        spot.head = await spot.session.live.head_for(after or 0)
        if after is not None and (after > spot.head or (epoch is not None and epoch != self._log.epoch)):
            spot.after, spot.gap = spot.oldest - 1, Lost(first, spot.oldest - 1)
        elif after is not None and after + 1 < spot.oldest:
            spot.after = spot.oldest - 1
            spot.gap = Lost(max(after + 1, first), spot.oldest - 1) if spot.oldest > first else None
        else:
            spot.after = after
        return spot

    def subscribe(self, spot: Spot, who: Subscriber, ended: Callable[[], None]) -> Following:
        """`ended` is called when it ends by itself: the session is gone, or the job never came or is not theirs."""
        following = Following(spot, who, ended)
        if spot.wild:
            self._follow_all(following)
        elif spot.session is None:
            self._wait(following)
        else:
            self._follow(following)
        return following

    def _follow(self, following: Following) -> None:
        spot = following.spot
        assert spot.session is not None
        sid = spot.session.live.record.id
        watch = self._watch(sid, spot.session.live.record.organisation, spot.head)
        feed = watch.feeds.get(spot.name)
        if feed is None:
            past = _Past(self._log, sid, spot.job, spot.name)
            feed = watch.feeds[spot.name] = Feed(self._fanout, watch.head, past)
            if spot.name != spot.job:
                watch.names[spot.job] = spot.name
        watch.there.add(following)
        feed.join(following.who, spot.after)
        following.stop = lambda: self._left(sid, watch, following)

    def _left(self, sid: SessionId, watch: _Watch, following: Following) -> None:
        watch.there.discard(following)
        spot = following.spot
        feed = watch.feeds[spot.name]
        feed.leave(following.who)
        if not feed:
            feed.close()
            del watch.feeds[spot.name]
            if watch.names.get(spot.job) == spot.name:
                del watch.names[spot.job]
        self._rest(sid, watch)

    def _rest(self, sid: SessionId, watch: _Watch) -> None:
        """Nobody is left who follows it."""
        if watch.feeds or any(organisation == watch.organisation for organisation, _ in self._wild):
            return
        if self._watches.get(sid) is watch:
            del self._watches[sid]
        if watch.task is not None:
            watch.task.cancel()

    def _follow_all(self, following: Following) -> None:
        key = (following.spot.who.organisation, following.spot.wild)
        feed = self._wild.setdefault(key, Feed(self._fanout))
        feed.join(following.who)

        def stop() -> None:
            feed.leave(following.who)
            if not feed:
                self._wild.pop(key, None)
                for sid, watch in list(self._watches.items()):
                    self._rest(sid, watch)

        following.stop = stop

    # --- the log grows ---

    def _watch(self, sid: SessionId, organisation: str, head: int) -> _Watch:
        watch = self._watches.get(sid)
        if watch is None:
            watch = self._watches[sid] = _Watch(organisation, head)
            watch.task = asyncio.get_running_loop().create_task(self._run(sid, watch), name="watch")
        return watch

    async def _run(self, sid: SessionId, watch: _Watch) -> None:
        try:
            async for batch in self._log.follow_batches(sid, watch.head):
                if isinstance(batch, Gap):
                    continue
                self._tell(watch, batch)
                for feed in [*watch.feeds.values(), *self._wild.values()]:
                    await feed.room()
        except StoreFailed as error:
            self._kit.note("watch_failed", session=sid, error=str(error)[:300])
        if self._watches.get(sid) is watch:
            del self._watches[sid]
        for following in list(watch.there):
            following.end()
            following.ended()

    def _tell(self, watch: _Watch, batch: Sequence[Row]) -> None:
        by_feed: dict[str, list[tuple[int, bytes]]] = {}
        for row in batch:
            job, rest = dialog.told(row.body, row.seq)
            for name in {"", job or ""}:
                if name in watch.feeds:
                    by_feed.setdefault(name, []).append((row.seq, rest))
            if job and (called := watch.names.get(job)):
                _, renamed = dialog.told(dialog.renamed(row.body, job, called), row.seq)
                by_feed.setdefault(called, []).append((row.seq, renamed))
            self._tell_all(watch.organisation, row, job, rest)
        watch.head = batch[-1].seq
        for name, rows in by_feed.items():
            watch.feeds[name].push(rows)

    def _tell_all(self, organisation: str, row: Row, job: str | None, rest: bytes) -> None:
        session = self._wild.get((organisation, "session"))
        if session is not None:
            session.push([(session.head + 1, rest)])
        dialogs = self._wild.get((organisation, "dialog"))
        if dialogs is not None and job:
            dialogs.push([(dialogs.head + 1, rest)])

    def _grown(self, sid: SessionId, rows: Sequence[Row]) -> None:
        """Called by the log after each commit."""
        if self._wild and sid not in self._watches:
            self._act(self._begin(sid, rows[0].seq - 1))
        for namespace in self._told:
            self._tell_handler(namespace, sid, rows)
        if self._pending:
            for row in rows:
                found = _JOB.search(row.body)
                waiting = self._pending.get(found[1].decode()) if found else None
                for following in list(waiting or ()):
                    self._act(self._arrived(following))

    def _tell_handler(self, namespace: Namespace, sid: SessionId, rows: Sequence[Row]) -> None:
        for row in rows:
            job, event = dialog.event_of(row.body, row.seq)
            name = sid if namespace.name == "session" else job
            if name:
                self._handlers.tell_own(namespace, Channel(f"/{namespace.name}/{name}"), [(f"{sid}:{row.seq}", event)])

    async def _begin(self, sid: SessionId, after: int) -> None:
        session = await self._sessions.found(sid)
        if session is not None and any(o == session.live.record.organisation for o, _ in self._wild):
            self._watch(sid, session.live.record.organisation, after)

    # --- jobs that are not there yet ---

    def _wait(self, following: Following) -> None:
        name = following.spot.name
        self._pending.setdefault(name, set()).add(following)
        self._waiting += 1
        self._act(self._come_meanwhile(following))
        timer = asyncio.get_running_loop().call_later(PENDING_S, lambda: self._act(self._arrived(following)))

        def stop() -> None:
            timer.cancel()
            self._waiting -= 1
            waiting = self._pending[name]
            waiting.discard(following)
            if not waiting:
                del self._pending[name]

        following.stop = stop

    def _named(self, organisation: str, name: str) -> None:
        """There is a job that its caller calls so."""
        for following in list(self._pending.get(name, ())):
            if following.spot.who.organisation == organisation:
                self._act(self._arrived(following))

    async def _come_meanwhile(self, following: Following) -> None:
        """Between looking for the job and waiting for it."""
        with contextlib.suppress(PilothouseError, StoreFailed):
            await self._sessions.of_job(following.spot.name, self._now(following.spot.who))
            await self._arrived(following)

    async def _arrived(self, following: Following) -> None:
        """The job is there, or time is up: may it be seen? By what the subscriber may now: it has waited, perhaps, for
        minutes."""
        spot = following.spot
        if following not in self._pending.get(spot.name, ()):
            return
        try:
            session, job = await self._sessions.of_job(spot.name, self._now(spot.who))
            access.need(self._now(spot.who), session.live.record, "read")  # the store took its time as well
        except PilothouseError:
            following.end()
            following.ended()
            return
        if following not in self._pending.get(spot.name, ()):
            return
        following.end()
        spot.session, spot.job = session, job.id
        spot.head = session.live.head
        spot.after = max(spot.after or 0, job.first_seq - 1)
        self._follow(following)

    def _act(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._acting.add(task)
        task.add_done_callback(self._acting.discard)

    # --- publishing ---

    async def publish(self, who: Principal, channel: Channel, events: Sequence[Event]) -> Published:
        """`custom` events, all or none, into the log. Raises NotFound, Forbidden, Bad, Conflict, Unavailable."""
        name = dialog.about(channel)
        said = [dialog.custom(event) for event in events]
        if channel.namespace == "session":
            session, job = await self._sessions.get(name, who, "run"), None
        else:
            session, found = await self._sessions.of_job(name, who, "run")
            job = found.id
        await self._append(session, job, who, said)
        return Published([Taken(records.new_id(), index) for index in range(len(said))], [])

    @whole
    async def _append(
        self, session: Session, job: JobId | None, who: Principal, said: Sequence[tuple[str, Any]]
    ) -> None:
        async with session.live.act():
            access.need(who, session.live.record, "run")
            if session.live.full:
                raise Unavailable("The session has logged as much as one may.")
            if job is not None and job not in session.jobs.known:
                raise Conflict("The job is done.")
            await session.live.commit([ev.Custom(name=n, data=d, by=who.label, job_id=job) for n, d in said])
