"""The sums of what was used (`core.tally`), kept beside the records: made with each, and once from all of a store that
has none yet.

Only the usage intake adds to them, one record after another, so a sum is read, added to and written in the commit that
takes the record. A commit that was done before does nothing, and then memory is not added to either.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from pilothouse.core import events as ev
from pilothouse.core import tally
from pilothouse.core.access import ORGANISATION
from pilothouse.core.ids import SessionId
from pilothouse.core.tally import Table, Tally
from pilothouse.engine import records
from pilothouse.engine.ports import Delete, EventStore, Op, Put, UsageRecord
from pilothouse.engine.records import JobRecord, SessionRecord

KIND = "tally"
MADE = "tallies"
"""The document `counter` that says that all records before were added up."""
KEPT = 1000
"""Sums in memory: those that are added to at one time are few."""
PAGE = 1000

T = TypeVar("T")
_decode = msgspec.json.Decoder(Tally).decode
_encode = msgspec.json.Encoder().encode
_record = msgspec.json.Decoder(UsageRecord)


@dataclass(frozen=True, slots=True)
class Taken:
    """What to write with a record, and what is so then."""

    ops: list[Op]
    tally: Tally


class Tallies:
    def __init__(self, store: EventStore) -> None:
        self._store = store
        self._known: OrderedDict[str, Tally] = OrderedDict()
        self._met: OrderedDict[str, SessionRecord] = OrderedDict()
        """Sessions of the newest records: of one that was deleted since nobody else knows whose it was."""

    async def taking(
        self, record: UsageRecord, session: SessionRecord | None, job: JobRecord | None, now: float
    ) -> Taken:
        """Call `took` when it is committed."""
        if session is not None:
            _keep(self._met, session.id, session)
        made = of_record(record, session or self._met.get(record.session), job, now)
        found = self._known.get(made.id) or await self._read(made.id)
        if found is not None:
            made.add(found)
        ops: list[Op] = [put(made)]
        if job is not None and job.ended_at is not None:  # what the agent said counts only where nothing is metered
            ended = msgspec.structs.replace(made, day=job.ended_at[:10])
            ops.append(Delete(KIND, ended.agent_id(job.id)))
        return Taken(ops, made)

    def took(self, taken: Taken) -> None:
        _keep(self._known, taken.tally.id, taken.tally)

    def forget(self) -> None:
        """After anything that went wrong: a commit that nobody heard of may have happened."""
        self._known.clear()

    async def _read(self, id: str) -> Tally | None:
        doc = await self._store.get(KIND, id)
        return None if doc is None else _decode(doc)

    async def make(self, now: float) -> None:
        """Adds up what a version without sums has left. May be cut off anywhere: it begins anew, and writes what it
        has found, never what is more. Before any record is taken. Raises StoreFailed."""
        if await self._store.get("counter", MADE) is not None:
            return
        sums: dict[str, Tally] = {}
        jobs: dict[str, JobRecord | None] = {}
        sessions: dict[str, SessionRecord | None] = {}
        after = ""
        while rows := await self._store.scan("usage", after=after, limit=PAGE):
            after = rows[-1][0]
            for _, doc in rows:
                record = _record.decode(doc)
                if record.session not in sessions:
                    sessions[record.session] = await self.session(record.session)
                if record.job is not None and record.job not in jobs:
                    jobs[record.job] = await self.job(record.job)
                job = jobs[record.job] if record.job is not None else None
                made = of_record(record, sessions[record.session], job, now)
                known = sums.setdefault(made.id, made)
                if known is not made:
                    known.add(made)
        every = list(sums.values())
        for start in range(0, len(every), PAGE):
            await self._store.commit(*map(put, every[start : start + PAGE]))
        await self._store.commit(Put("counter", MADE, b"1"))

    async def session(self, id: str) -> SessionRecord | None:
        doc = await self._store.get("session", id)
        return None if doc is None else records.load(doc, SessionRecord)

    async def job(self, id: str) -> JobRecord | None:
        doc = await self._store.get("job", id)
        return None if doc is None else records.load(doc, JobRecord)

    async def table(
        self, organisation: str, first: str, last: str, by: tuple[tally.Field, ...], person: str | None
    ) -> Table:
        """`person`: this account's alone. Raises BadRequest, StoreFailed."""
        out = Table(by)
        after, end = f"{organisation}:{first}", f"{organisation}:{last};"  # `;` comes after `:`
        while rows := await self._store.scan(KIND, after=after, limit=PAGE):
            found = [_decode(doc) for id, doc in rows if id < end]
            out.add(t for t in found if person is None or t.person == person)
            after = rows[-1][0]
            if after >= end:
                break
        return out


def _keep(known: OrderedDict[str, T], key: str, value: T) -> None:
    """So many as there are at one time; the one that was not needed for longest goes."""
    known[key] = value
    known.move_to_end(key)
    if len(known) > KEPT:
        known.popitem(last=False)


def of_record(record: UsageRecord, session: SessionRecord | None, job: JobRecord | None, now: float) -> Tally:
    """A record's own sums. One without a time is as old as its job."""
    at = record.at
    if at is None:
        since = (job.created_at if job else "") or (session.created_at if session else "")
        at = records.seconds(since) if since else now
    made = _of(session, record.session, job, tally.day(at), record.model)
    made.calls, made.refused = int(not record.refused), int(bool(record.refused))
    made.input_tokens, made.output_tokens = record.input_tokens, record.output_tokens
    made.cache_read_tokens, made.cache_write_tokens = record.cache_read_tokens, record.cache_write_tokens
    made.cost_usd = record.cost_usd
    made.guessed_tokens = made.tokens if record.tokens_guessed else 0
    made.guessed_cost_usd = record.cost_usd if record.price_guessed else 0.0
    return made


def of_agent(session: SessionRecord, job: JobRecord, usage: ev.Usage, at: str) -> Put:
    """What an agent said of a job that ends, where nothing was metered."""
    made = _of(session, session.id, job, at[:10], job.model or session.model)
    made.input_tokens, made.output_tokens = usage.input_tokens, usage.output_tokens
    made.cache_read_tokens, made.cache_write_tokens = usage.cache_read_tokens, usage.cache_write_tokens
    made.cost_usd = made.agent_cost_usd = usage.total_cost
    made.agent_tokens = made.tokens
    return Put(KIND, made.agent_id(job.id), _encode(made), records.shelf(made.organisation))


def _of(session: SessionRecord | None, id: str, job: JobRecord | None, day: str, model: str) -> Tally:
    owner = session.owner if session is not None else ""
    key = job.key if job is not None else ""
    return Tally(
        day=day,
        organisation=session.organisation if session is not None else ORGANISATION,
        session=SessionId(id),
        person=job.askers[0] if job is not None and job.askers else owner,
        key=key,
        key_name=job.by.removeprefix("key:") if key and job is not None else "",
        model=model,
    )


def put(made: Tally) -> Put:
    return Put(KIND, made.id, _encode(made), records.shelf(made.organisation))
