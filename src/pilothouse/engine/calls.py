"""What a program asks for becomes one job, however often it asks: by its own name for the job, or by a key of the
request.

A name or key is remembered in the transaction that accepts the job, so a server that is killed in between has either
both or neither. Who says the same word at the same time waits for whoever said it first. Names are one organisation's;
keys are one account's. They go with the session.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from pilothouse.core import events as ev
from pilothouse.core.access import Principal
from pilothouse.core.bucket import State
from pilothouse.core.errors import Conflict, NotFound, PilothouseError, TooMany, Unavailable
from pilothouse.core.ids import is_uuid
from pilothouse.core.invoke import Wish, snake
from pilothouse.engine import records
from pilothouse.engine.audit import Who
from pilothouse.engine.gate import Gate
from pilothouse.engine.jobs import RESULT_KEPT
from pilothouse.engine.live import whole
from pilothouse.engine.origin import NOWHERE, Origin
from pilothouse.engine.ports import Op, Put, StoreFailed
from pilothouse.engine.records import Called, JobRecord
from pilothouse.engine.sessions import Session, Sessions
from pilothouse.engine.words import Words

LOOK = 500
"""Rows in which a job's `complete` is looked for, from where its record says: after a commit whose answer nobody heard
it is a few rows further on."""


class EndMissing(StoreFailed):
    """The log goes on past a job's end, and has no `complete` of it."""


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    """Of any event."""

    type: str
    job_id: str | None = None


class _Ending(msgspec.Struct, frozen=True):
    """As much of `complete` as is looked at."""

    result: str = ""
    truncated: dict[str, ev.Cut] = {}


_head = msgspec.json.Decoder(_Head)
_ending = msgspec.json.Decoder(_Ending)


@dataclass(frozen=True)
class Started:
    session: Session
    job: JobRecord
    state: State | None
    """What the caller has left of the day, where this call began the job and days are counted."""


class Calls:
    def __init__(self, sessions: Sessions, gate: Gate) -> None:
        self._sessions = sessions
        self._gate = gate
        self._store = sessions.kit.store
        self._words = Words()

    @whole
    async def start(self, wish: Wish, who: Who, key: str | None = None, origin: Origin = NOWHERE) -> Started:
        """A new job, or the one that this name or key stands for. `key`: `HEADER:WORD`. Raises NotFound, Forbidden,
        BadRequest, RateLimited, Unavailable; Conflict where the session cannot take it, or the word stands for
        something else."""
        principal = who.principal
        assert principal is not None
        words = _words(principal, wish, key)
        async with self._words.turn(*words):
            about = hashlib.sha256(msgspec.json.encode(wish)).hexdigest()
            for word in words:
                known = await self._known(word, principal, about, key)
                if known is not None:
                    return known
            if wish.job_id is not None and is_uuid(wish.job_id) and await self._store.get("job", wish.job_id):
                raise Conflict("job_id: it is another job's.")
            async with self._gate.job(principal) as state:
                session, job = await self._begin(wish, who, words, about, origin)
        if job.name:
            for told in self._sessions.on_name:
                told(principal.organisation, job.name)
        return Started(session, job, state)

    async def _known(self, word: str, who: Principal, about: str, key: str | None) -> Started | None:
        doc = await self._store.get("call", word)
        if doc is None:
            return None
        called = records.load(doc, Called)
        if word.startswith("name:") and called.account != who.account:
            raise Conflict("job_id: somebody else has used it.")
        if key is not None and word.startswith("key:") and called.about != about:
            raise Conflict(f"{key.partition(':')[0]}: it was used for another request.")
        session, job = await self._sessions.of_job(called.job, who, "run")
        return Started(session, job, None)

    async def _begin(
        self, wish: Wish, who: Who, words: Sequence[str], about: str, origin: Origin
    ) -> tuple[Session, JobRecord]:
        with snake():
            session = await self._place(wish, who, words)
            try:
                return session, await self._submit(session, wish, who, words, about, origin)
            except PilothouseError:
                if wish.session_id is None and session.live.record.state in {"new", "idle"} and not session.jobs.busy:
                    with contextlib.suppress(PilothouseError):  # nobody was told of it
                        await self._sessions.delete(session)
                raise

    async def _place(self, wish: Wish, who: Who, words: Sequence[str]) -> Session:
        principal = who.principal
        assert principal is not None
        if wish.session_id is not None:
            try:
                session = await self._sessions.get(wish.session_id, principal, "run")
            except NotFound:
                raise NotFound("session_id: there is no such session, or it is not yours to see.") from None
            if wish.agent is not None and wish.agent != session.live.record.agent:
                raise Conflict(f"agent: this session's agent is {session.live.record.agent}")
            return session
        principal.need("run")
        try:
            self._sessions.room()
        except TooMany as error:
            raise Unavailable(error.message) from None
        return await self._sessions.create(
            owner=principal.account,
            organisation=principal.organisation,
            once=f"call:{words[0]}" if words else "",
            agent=wish.agent,
            permission_mode=wish.mode,
            model=wish.model,
            who=who,
        )

    async def _submit(
        self, session: Session, wish: Wish, who: Who, words: Sequence[str], about: str, origin: Origin
    ) -> JobRecord:
        principal = who.principal
        assert principal is not None
        try:
            job = self._sessions.job(
                session,
                wish.prompt,
                principal.label,
                account=principal.account,
                permission_mode=wish.mode,
                allowed_tools=wish.tools,
                max_cost_usd=wish.max_cost_usd,
                max_tokens=wish.max_tokens,
                model=wish.model,
                timeout_s=wish.timeout_s,
                name=wish.job_id or "",
                headless=True,
                origin=origin,
            )
        except TooMany as error:
            raise Unavailable(error.message) from None
        called = msgspec.json.encode(Called(job=job.id, account=principal.account, about=about))
        also: list[Op] = [Put("call", word, called, session.live.record.id) for word in words]
        try:
            return await session.jobs.submit(job, client_message_id=None, also=also)
        except TooMany as error:
            raise Conflict(error.message) from None

    async def ended(self, started: Started) -> JobRecord:
        """The job, at its end. One whose session was deleted has failed."""
        try:
            return await started.session.jobs.end_of(started.job)
        except NotFound:
            return records.copy(
                started.job,
                state="done",
                outcome="interrupted",
                result="The session was deleted.",
                reason="stopped",
                ended_at=started.session.live.now(),
            )

    async def left(self, started: Started, by: str) -> None:
        """A caller who wanted the job to end with its connection has gone. While others wait for it, it goes on."""
        if started.session.jobs.awaited[started.job.id]:
            return
        with contextlib.suppress(PilothouseError):
            await started.session.jobs.interrupt(by, started.job.id)

    async def result(self, job: JobRecord) -> str:
        """All of it: the record has the beginning of one that is long, the log both ends. Raises StoreFailed,
        EndMissing."""
        said = job.result or ("" if job.outcome == "succeeded" else job.reason or job.outcome or "")
        if len(said) < RESULT_KEPT or job.last_seq is None:
            return said
        found = await self._end(job, job.last_seq)
        if found is None:
            return said
        if "result" not in found.truncated:
            return found.result or said  # it is short enough for the log
        digest = found.truncated["result"].url.rpartition("/")[2]
        text = await self._store.get("text", f"{job.session_id}:{digest}")
        return said if text is None else text.decode()

    async def _end(self, job: JobRecord, seq: int) -> _Ending | None:
        """None: the log is gone, or retention has taken so much of it. Raises StoreFailed, EndMissing."""
        for many in (1, LOOK):
            page = await self._sessions.kit.log.page(job.session_id, seq - 1, many)
            for row in page.rows:
                head = _head.decode(row.body)
                if head.type == "complete" and head.job_id == job.id:
                    return _ending.decode(row.body)
        if page.oldest > seq or page.head < seq:
            return None
        raise EndMissing(f"The log has no end of the job {job.id} at {seq}.")


def _words(who: Principal, wish: Wish, key: str | None) -> list[str]:
    words = [records.named(who.organisation, wish.job_id)] if wish.job_id is not None else []
    if key is not None:
        text = msgspec.json.encode([who.organisation, who.account, key])
        words.append("key:" + hashlib.sha256(text).hexdigest())
    return words
