"""All sessions: made, found, woken, put to rest, deleted. Each that is in use is one `Live` with its parts."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.parse
from collections.abc import Awaitable, Callable, Mapping

from pilothouse.core import access, link, policy
from pilothouse.core import events as ev
from pilothouse.core.access import ORGANISATION, Principal, Scope
from pilothouse.core.errors import BadRequest, NotFound, PilothouseError, TooMany, Unavailable
from pilothouse.core.ids import ApprovalId, JobId, QuestionId, SessionId, is_segment, is_uuid
from pilothouse.engine import records, wishes
from pilothouse.engine.artifacts import Artifacts
from pilothouse.engine.audit import SERVER, Entry, Who
from pilothouse.engine.kit import Kit
from pilothouse.engine.live import whole
from pilothouse.engine.origin import NOWHERE, Origin
from pilothouse.engine.ports import Delete, Op, Probe, Purge, Put, StoreFailed
from pilothouse.engine.records import ApprovalRecord, Called, Egress, JobRecord, QuestionRecord, SessionRecord
from pilothouse.engine.resting import Resting
from pilothouse.engine.rules import Rules
from pilothouse.engine.secrets import Secrets
from pilothouse.engine.session import Session
from pilothouse.engine.shelf import BEFORE, Shelf
from pilothouse.engine.spares import Spares

__all__ = ["Session", "Sessions"]
REAP_S = 5.0
"""How often idle sessions are looked for."""


class Sessions:
    def __init__(
        self,
        kit: Kit,
        rules: Rules,
        probe: Probe,
        secrets: Secrets | None = None,
        artifacts: Artifacts | None = None,
    ) -> None:
        self.kit = kit
        self.rules = rules
        self.secrets = secrets
        self.artifacts = artifacts
        self.probe = probe
        self._here: dict[SessionId, Session] = {}
        self.shelf: Shelf[Session] = Shelf(kit, self._here)
        self.resting = Resting(kit.store, kit.clock)
        self._loading: dict[SessionId, asyncio.Task[Session | None]] = {}
        self._creating = asyncio.Lock()
        self._reaper: asyncio.Task[None] | None = None
        self.spares = Spares(kit, kit.limits.agent, kit.limits.spares)
        self.watched: Callable[[SessionId], bool] = lambda _: False
        """Whether a session's shells are in use; set by whoever knows."""
        self.on_end: list[Callable[[SessionId], Awaitable[None]]] = []
        """Called when a session's processes have been ended."""
        self.on_name: list[Callable[[str, str], None]] = []
        """Called when there is a job of a caller's own name: its organisation, and the name."""

    # --- making and finding ---

    @whole
    async def create(
        self,
        *,
        owner: str,
        organisation: str = ORGANISATION,
        once: str = "",
        agent: str | None = None,
        title: str | None = None,
        source: ev.Source | None = None,
        permission_mode: str | None = None,
        model: str | None = None,
        limits: Mapping[str, float] | None = None,
        egress: Egress | None = None,
        who: Who = SERVER,
    ) -> Session:
        """Raises BadRequest, Unavailable. Nothing is started yet. The same `once` (a caller's own word for this very
        wish) gives the same session. `limits` have been checked."""
        whose = (organisation, owner)
        if not once:
            return await self._create(
                whose, agent, title, source, permission_mode, model, [], limits or {}, egress, who
            )
        key = f"made:{organisation}:{urllib.parse.quote(owner, safe='')}:{once}"
        async with self._creating:
            known = await self.kit.store.get("resend", key)
            if known is None and whose == (ORGANISATION, BEFORE):
                known = await self.kit.store.get("resend", f"new:{owner}:{once}")  # said before there were others
            session = None if known is None else await self.found(SessionId(known.decode()))
            if session is not None:
                return session
            return await self._create(
                whose, agent, title, source, permission_mode, model, [key], limits or {}, egress, who
            )

    async def _create(
        self,
        whose: tuple[str, str],
        agent: str | None,
        title: str | None,
        source: ev.Source | None,
        permission_mode: str | None,
        model: str | None,
        resends: list[str],
        limits: Mapping[str, float],
        egress: Egress | None,
        who: Who,
    ) -> Session:
        agent = self.kit.limits.agent if agent is None else agent
        if agent not in self.kit.agents:
            raise BadRequest(f"agent: {agent[:50]!r} is none of {', '.join(self.kit.agents)}")
        if not self.probe.usable:
            self.probe = await self.kit.sandboxes.probe()  # it may have been mended
        if not self.probe.usable:
            raise Unavailable(f"No session can be isolated on this host: {self.probe.summary}")
        if source is not None:
            source = self.kit.sandboxes.check(source)
        now = records.stamp(self.kit.clock.now())
        title, model = wishes.title(title or ""), wishes.model(model or "")
        mode = policy.mode(self.kit.limits.permission_mode if permission_mode is None else permission_mode)
        plain = source is None and not limits
        spare = self.spares.take(agent) if plain else None  # the last thing that may be refused is past
        if spare is None:
            self.spares.passed_by()
        record = SessionRecord(
            id=spare or SessionId(records.new_id()),
            owner=whose[1],
            organisation=whose[0],
            title=title,
            agent=agent,
            isolation=self.probe.isolation,
            source=source,
            created_at=now,
            last_active_at=now,
            state="idle" if spare else "new",  # a spare's processes run already: somebody must stop them one day
            permission_mode=mode,
            model=model,
            limits=dict(limits),
            egress=egress,
        )
        session = Session.made(self.kit, self.rules, self.secrets, self.artifacts, record)
        masks = await session.live.known_masks()
        record.title = masks.text(title) if masks else title  # it cannot be refused any more
        ops = [Put("resend", key, record.id.encode(), record.id) for key in resends]
        entry = Entry("session.create", f"session:{record.id}", details={"agent": agent, "mode": mode})
        try:
            async with session.live.act(), self.kit.audit.noting(who, entry) as noted:
                await session.live.commit([session.live.session_event()], records.put(record), *ops, *noted)
        except PilothouseError:
            if spare:
                with contextlib.suppress(PilothouseError):
                    await self.kit.sandboxes.delete(spare)
            raise
        self._here[record.id] = session
        session.jobs.drive.start()
        return session

    async def get(self, session_id: str, who: Principal, scope: Scope = "read") -> Session:
        """Raises NotFound for what is unknown or not for `who` to see, Forbidden where it may only look."""
        if not is_uuid(session_id):
            raise NotFound
        sid = SessionId(session_id)
        session = self._here.get(sid) or await self._load(sid)
        if session is None or session.live.removed:
            raise NotFound
        access.need(who, session.live.record, scope)
        return session

    def here(self, session_id: SessionId) -> Session | None:
        """The session if it is in memory: one that is not has nothing running and nothing open."""
        return self._here.get(session_id)

    def agent_of(self, session_id: SessionId) -> str:
        """Of one in memory."""
        found = self._here.get(session_id)
        return found.live.record.agent if found is not None else "unknown"

    def every(self) -> list[Session]:
        """Those in memory."""
        return list(self._here.values())

    async def found(self, session_id: SessionId) -> Session | None:
        """For the server itself, whoever's it is."""
        return self._here.get(session_id) or await self._load(session_id)

    async def of_job(self, job_id: str, who: Principal, scope: Scope = "read") -> tuple[Session, JobRecord]:
        """By the server's id, or by the name that its caller gave it. Raises NotFound, Forbidden."""
        doc = await self.kit.store.get("job", job_id) if is_uuid(job_id) else None
        if doc is None and is_segment(job_id):
            called = await self.kit.store.get("call", records.named(who.organisation, job_id))
            doc = await self.kit.store.get("job", records.load(called, Called).job) if called is not None else None
        if doc is None:
            raise NotFound
        record = records.load(doc, JobRecord)
        session = await self.get(record.session_id, who, scope)
        return session, session.jobs.known.get(record.id, record)

    async def of_approval(
        self, approval_id: str, who: Principal, scope: Scope = "read"
    ) -> tuple[Session, ApprovalRecord]:
        doc = await self.kit.store.get("approval", approval_id) if is_uuid(approval_id) else None
        if doc is None:
            raise NotFound
        record = records.load(doc, ApprovalRecord)
        session = await self.get(record.session_id, who, scope)
        return session, session.approvals.pending.get(ApprovalId(approval_id), record)

    async def of_question(
        self, question_id: str, who: Principal, scope: Scope = "read"
    ) -> tuple[Session, QuestionRecord]:
        doc = await self.kit.store.get("question", question_id) if is_uuid(question_id) else None
        if doc is None:
            raise NotFound
        record = records.load(doc, QuestionRecord)
        session = await self.get(record.session_id, who, scope)
        return session, session.questions.pending.get(QuestionId(question_id), record)

    # --- acts ---

    def job(
        self,
        session: Session,
        prompt: str,
        by: str,
        *,
        account: str = "",
        permission_mode: str | None = None,
        allowed_tools: list[str] | None = None,
        max_cost_usd: float | None = None,
        max_tokens: int | None = None,
        model: str | None = None,
        timeout_s: int | None = None,
        name: str = "",
        headless: bool = False,
        origin: Origin = NOWHERE,
    ) -> JobRecord:
        """A checked job, not yet accepted. Raises BadRequest, TooMany."""
        self.check(
            prompt, permission_mode=permission_mode, allowed_tools=allowed_tools, max_cost_usd=max_cost_usd,
            max_tokens=max_tokens, model=model, timeout_s=timeout_s,
        )  # fmt: skip
        if not session.jobs.busy:
            self.room()
        return JobRecord(
            id=JobId(records.new_id()),
            session_id=session.live.record.id,
            prompt=prompt,
            by=by,
            askers=[account] if account else [],
            key=origin.key,
            trace=origin.trace,
            created_at=session.live.now(),
            permission_mode=policy.mode(
                session.live.record.permission_mode if permission_mode is None else permission_mode
            ),
            model=wishes.model(model) if model else None,
            allowed_tools=allowed_tools,
            max_cost_usd=max_cost_usd,
            max_tokens=max_tokens,
            timeout_s=timeout_s or self.kit.limits.job_timeout_s,
            name=name,
            headless=headless,
        )

    def room(self) -> None:
        """For one more session that works. Raises TooMany."""
        alive, most = self.working(), self.kit.limits.sessions_max
        if alive >= most:
            raise TooMany(f"{alive} sessions are working already; the limit is {most}.")

    def check(
        self,
        prompt: str,
        *,
        permission_mode: str | None = None,
        allowed_tools: list[str] | None = None,
        max_cost_usd: float | None = None,
        max_tokens: int | None = None,
        model: str | None = None,
        timeout_s: int | None = None,
    ) -> None:
        """A job's wishes, before anything is made for it. Raises BadRequest naming what is wrong."""
        wishes.prompt(prompt, self.kit.limits.prompt_max)
        wishes.options(permission_mode, allowed_tools, max_cost_usd, max_tokens, model, timeout_s)

    @whole
    async def change(
        self,
        session: Session,
        *,
        title: str | None = None,
        mode: str | None = None,
        model: str | None = None,
        who: Who = SERVER,
    ) -> SessionRecord:
        """Title, permission mode, model. A running job goes on in the new mode, asks that are open stay open."""
        live = session.live
        async with live.act():
            changes: dict[str, str] = {}
            if title is not None:
                changes["title"] = wishes.title(title)
                await live.no_secret("title", title)
            if mode is not None:
                changes["permission_mode"] = policy.mode(mode)
            if model is not None:
                changes["model"] = wishes.model(model)
            record = live.changed(**changes)
            happened: list[ev.Event] = []
            if record.title != live.record.title:
                happened.append(
                    ev.SessionEvent(
                        agent=record.agent, isolation=record.isolation, title=record.title, source=record.source
                    )
                )
            if mode is not None or model is not None:
                happened.append(
                    ev.SessionUpdate(mode=changes.get("permission_mode"), model=changes.get("model") or None)
                )
            running = live.current or session.jobs.running
            ops: list[Op] = [records.put(record)]
            if mode is not None and running is not None:  # kept, or a restart would bring the old mode back
                ops.append(records.put(records.copy(running, permission_mode=record.permission_mode)))
            entry = Entry("session.change", f"session:{record.id}", details={**changes})
            async with self.kit.audit.noting(who, entry) as noted:
                await live.commit(happened, *ops, *noted)
            live.record = record
            if mode is not None and running is not None:
                running.permission_mode = record.permission_mode
                live.send(link.SetMode(id=records.new_id(), mode=record.permission_mode))
            if model and live.link is not None:
                live.send(link.SetModel(id=records.new_id(), model=model))
            return record

    @whole
    async def stop(self, session: Session, who: Who | None = None) -> None:
        """Ends its processes; workspace and conversation stay. Without `who`: nobody's act, the session was idle."""
        live = session.live
        if live.record.state == "new" and not session.jobs.busy:
            return
        if who is not None:  # first: what has ended is not brought back when the store cannot write
            await self.kit.audit.commit(who, [Entry("session.stop", f"session:{live.record.id}")])
        live.ending = "The session was stopped."
        live.ends += 1
        try:
            await session.jobs.abandon(live.ending, "stopped")
            await session.jobs.drive.settled()
            await self.kit.sandboxes.stop(live.record.id)
            await self._ended(live.record.id)
            await session.jobs.lost(live.ending, "stopped")
            await live.let_go()
        finally:
            live.ending = ""
        await self.kit.models.drop(live.record.id)
        async with live.act():
            record = live.changed(state="stopped")
            await live.commit([], records.put(record))
            live.record = record

    @whole
    async def delete(self, session: Session, who: Who = SERVER) -> None:
        """Ends it and removes log, documents and workspace. A person's act."""
        live = session.live
        await self.kit.audit.commit(who, [Entry("session.delete", f"session:{live.record.id}")])  # first, as above
        live.removed = True
        live.ends += 1
        live.ending = "The session was deleted."
        try:
            await session.jobs.abandon(live.ending, "stopped")
            await session.jobs.drive.settled()
            await session.close()
            with contextlib.suppress(PilothouseError):
                await self.kit.models.drop(live.record.id)
                await self.kit.models.forget(live.record.id)
            await self.kit.sandboxes.delete(live.record.id)
            await self._ended(live.record.id)
            left = list(session.jobs.known.values())
            gone = await self.artifacts.gone(live.record.id, left) if self.artifacts is not None else []
            await self.kit.log.append(
                live.record.id, [], Purge(live.record.id), Delete("session", live.record.id), *gone
            )
        except StoreFailed as error:
            raise Unavailable("The store cannot write; try again.") from error
        finally:
            # Until here it is found, and refused: one that was loaded anew meanwhile would write to a purged log.
            self._here.pop(live.record.id, None)
            session.jobs.gone()
        if self.artifacts is not None:
            self.artifacts.dropped()
        self.rules.forget(live.record)
        self.kit.bells.ring(live.record.id)

    async def _ended(self, session_id: SessionId) -> None:
        for call in self.on_end:
            await call(session_id)
        if self.secrets is not None:
            self.secrets.forget(session_id)

    # --- life ---

    async def start(self) -> None:
        """Takes up what a server before this one left: jobs not done, approvals open, runners alive."""
        await self.rules.load()
        await self.shelf.migrate()
        after = ""
        while found := await self.kit.store.scan("session", after=after, limit=500):
            for key, doc in found:
                record = records.load(doc, SessionRecord)
                if record.state in {"active", "idle"} or await self._unfinished(record.id):
                    await self._load(record.id)
                after = key
        await self._sweep()
        self._reaper = asyncio.create_task(self._reap(), name="reaper")
        self.spares.start()

    async def _sweep(self) -> None:
        """Sandboxes without a session: spares of a server that was killed, a deletion that was cut short."""
        for state in await self.kit.sandboxes.list():
            if await self.kit.store.get("session", state.session) is None:
                self.kit.note("sandbox_without_session", session=state.session)
                with contextlib.suppress(PilothouseError):
                    await self.kit.sandboxes.delete(state.session)

    async def _unfinished(self, session_id: SessionId) -> bool:
        newest = await self.kit.store.scan("job", owner=session_id, limit=50, newest=True)
        return any(records.load(doc, JobRecord).state != "done" for _, doc in newest)

    async def close(self) -> None:
        """Lets go of everything; sandboxes and runners go on."""
        if self._reaper is not None:
            self._reaper.cancel()
        await self.spares.close()
        for session in list(self._here.values()):
            await self._put_away(session)

    async def _put_away(self, session: Session) -> None:
        """Out of memory. Whoever still holds it is refused by `act` and asks again."""
        session.live.away = True
        self._here.pop(session.live.record.id, None)
        await session.close()
        if self.secrets is not None:
            self.secrets.forget(session.live.record.id)

    async def _load(self, session_id: SessionId) -> Session | None:
        """Once for all who ask at the same time, and to its end whoever of them leaves."""
        task = self._loading.get(session_id)
        if task is None:
            task = self._loading[session_id] = asyncio.create_task(self._load_once(session_id), name="load")
            task.add_done_callback(lambda _: self._loading.pop(session_id, None))
        return await asyncio.shield(task)

    async def _load_once(self, session_id: SessionId) -> Session | None:
        doc = await self.kit.store.get("session", session_id)
        if doc is None or session_id in self._here:
            return self._here.get(session_id)
        session = Session.made(self.kit, self.rules, self.secrets, self.artifacts, records.load(doc, SessionRecord))
        await session.restore()
        self._here[session_id] = session
        session.jobs.drive.start()
        return session

    async def _reap(self) -> None:
        """Stops sessions that nobody has used for `idle_s`."""
        while True:
            await self.kit.clock.sleep(REAP_S)
            now = self.kit.clock.now()
            for session in list(self._here.values()):
                live = session.live
                idle = now - live.touched > self.kit.limits.idle_s
                if not idle or session.jobs.busy or self.watched(live.record.id):
                    continue
                try:
                    if live.record.state in {"active", "idle"}:
                        self.kit.note("session_idle", session=live.record.id)
                        await self.stop(session)
                    else:
                        await self._put_away(session)
                except Exception as error:  # noqa: BLE001  one session must not keep all others from their rest
                    self.kit.note("reap_failed", session=live.record.id, error=repr(error)[:500])

    @property
    def stuck(self) -> list[SessionId]:
        """Sessions whose events the store does not take."""
        return [sid for sid, s in self._here.items() if s.live.stuck]

    def asked_for_network(self) -> set[SessionId]:
        """Sessions with an open approval that the proxy asked for."""
        return {sid for sid, s in self._here.items() if any(r.origin == "proxy" for r in s.approvals.pending.values())}

    def working(self) -> int:
        return sum(1 for s in self._here.values() if s.jobs.busy)
