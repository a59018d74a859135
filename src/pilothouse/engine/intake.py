"""What comes up the link, into the log: checked against what a runner may say, stamped with its job, acknowledged.

One batch is one transaction, with the mark of its last number, so a batch that is sent again changes nothing. A turn's
end is a transaction of its own. Answers that need no person go down only after the commit.
"""

from __future__ import annotations

import contextlib

import msgspec

from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.errors import PilothouseError
from pilothouse.core.redact import Masks
from pilothouse.core.said import clean
from pilothouse.engine import records
from pilothouse.engine.approvals import Approvals
from pilothouse.engine.jobs import Jobs
from pilothouse.engine.kit import worth_noting
from pilothouse.engine.live import Live
from pilothouse.engine.ports import Mark, ModelState, Op
from pilothouse.engine.questions import Questions
from pilothouse.engine.veil import HOLD_S, Said, Veil, veiled

OWN_TURNS_MAX = 1000
"""Turns that nobody prompted, of one session while the server runs: background tasks begin a handful; each is a job,
and jobs are kept."""
LOG_FULL = "The session's log is full; go on in another session."


class Intake:
    """The link's owner for one session."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self.jobs: Jobs
        self.approvals: Approvals
        self.questions: Questions
        self.dropped = 0
        self._own_turns = 0
        self._runner = ""
        self._model: ModelState | None = None
        self._veil: Veil | None = None

    # --- link.Owner ---

    async def environment(self) -> dict[str, str]:
        return await self._live.environment()

    async def greeted(self, hello: link.Hello) -> int:
        live = self._live
        self._veil = None  # what waited was not acknowledged: it is said again
        self._model = await live.kit.models.state()
        if hello.runner_id != self._runner:
            first, self._runner = not self._runner, hello.runner_id
            if not first:
                await self.jobs.lost("The agent's runner ended.", "runner_lost")
            resumable = live.record.agent_session_id
            if resumable and not any(j.runner_id == hello.runner_id for j in self.jobs.known.values()):
                live.send(link.Resume(id=f"resume-{hello.runner_id}", agent_session_id=resumable))
        return await live.kit.store.marked(self._source())

    async def take(self, batch: list[tuple[int, bytes]]) -> int:
        masks = await self._live.masks()  # not known: not taken, and said again
        taken = 0
        for part in _parts([(n, link.parse_event(raw)) for n, raw in batch]):
            if isinstance(turn := part[0][1], link.TurnStarted | link.TurnEnded):
                await self.jobs.collect_for(turn)  # all that was said before is in the log by now, for all to see
            async with self._live.lock:
                said = self._veiled(part, masks)
                if self._veil is not None and self._veil.waits:
                    self._live.background(self._wait(self._veil, part[-1][0]))
                taken = max(taken, await self._take(said))
        return taken

    def _veiled(self, batch: list[tuple[int, Said]], masks: Masks | None) -> list[tuple[int, Said]]:
        """What can be taken of it now, and of what waited."""
        ready: list[tuple[int, Said]] = []
        if self._veil is not None and self._veil.masks is not masks:
            ready, self._veil = self._veil.release(), None
        if masks is None:
            return ready + batch
        veil = self._veil = self._veil or Veil(masks)
        return ready + [one for n, said in batch for one in veil.feed(n, said)]

    async def _wait(self, veil: Veil, newest: int) -> None:
        """Nothing came for a while."""
        await self._live.kit.clock.sleep(HOLD_S)
        async with self._live.lock:
            if self._veil is veil and veil.newest == newest:
                await self._take(veil.release())

    async def flush(self) -> None:
        """Nothing more comes. Needs the lock."""
        veil, self._veil = self._veil, None
        if veil is not None:
            await self._take(veil.release())

    async def _take(self, batch: list[tuple[int, Said]]) -> int:
        """Needs the lock. The number of the last."""
        if not batch:
            return 0
        events: list[ev.Event] = []
        ops: list[Op] = []
        answers: list[link.Command] = []
        source = self._source()
        unmarked = 0
        for n, said in batch:
            unmarked = n
            if not isinstance(said, link.Broken):
                said = clean(said)
            if isinstance(said, link.TurnStarted) and self.jobs.left_open(said.turn_id):
                await self._live.commit(events, *ops, mark=Mark(source, n - 1), insist=True)
                events, ops = [], []
                await self.jobs.end_left_open()
            if isinstance(said, link.TurnEnded):
                if events or ops:
                    await self._live.commit(events, *ops, mark=Mark(source, n - 1), insist=True)
                    events, ops = [], []
                if await self.jobs.turn_ended(said, Mark(source, n)):
                    unmarked = 0
                    continue
                said = link.Broken("a turn that is not open ended")
            answers += self._one(said, events, ops)
        if unmarked:
            await self._live.commit(events, *ops, mark=Mark(source, unmarked), insist=True)
        if self._live.full and not self._live.ending:
            self._live.ending = LOG_FULL
            self._live.background(self._end_full())
        for command in answers:
            self._live.send(command)
        return batch[-1][0]

    async def _end_full(self) -> None:
        """A session that goes on writing would fill the disk for all."""
        live = self._live
        live.kit.note("log_full", session=live.record.id)
        try:
            await live.kit.sandboxes.stop(live.record.id)
            await live.unlink()
            await self.jobs.lost(LOG_FULL, "log_full")
        except PilothouseError as error:
            live.kit.note("stop_failed", session=live.record.id, error=error.message[:200])
        finally:
            live.ending = ""

    async def again(self, raw: bytes) -> None:
        """An event that was taken before. Only an open ask means something: the runner still waits for its answer."""
        said = link.parse_event(raw)
        if not isinstance(said, link.PermissionAsk | link.QuestionAsk):
            return
        masks = await self._live.masks()
        if masks is not None:
            said = veiled(masks, said)
        events: list[ev.Event] = []
        ops: list[Op] = []
        async with self._live.lock:
            answers = self._one(clean(said), events, ops)
            if events or ops:
                await self._live.commit(events, *ops, insist=True)
        for command in answers:
            self._live.send(command)

    async def gone(self) -> bool:
        live = self._live
        if live.removed:
            return True
        state = await live.state()
        if state.alive and state.runner:
            return False
        async with live.lock:
            await self.flush()
        kept = state.alive and state.shells > 0 and not live.ending
        if state.alive and not live.ending and not kept:
            # What the runner leaves behind has nobody to ask any more, and nobody to answer for it.
            with contextlib.suppress(PilothouseError):
                await live.kit.sandboxes.stop(live.record.id)
        why = state.exit or "the runner died"
        if live.ending:
            await self.jobs.lost(live.ending, "stopped")
        else:
            await self.jobs.lost(f"The session ended while the agent worked: {why}.", "session_lost")
        async with live.lock:
            rest = "idle" if kept else "stopped"
            record = live.changed(state=rest if live.record.state != "lost" else "lost")
            if record.state != live.record.state:
                await live.commit([], records.put(record), insist=True)
                live.record = record
        return True

    def trouble(self, error: Exception) -> None:
        self._live.kit.note("link_trouble", session=self._live.record.id, error=repr(error)[:500])

    def _source(self) -> str:
        """Of the runner's numbers. With the session's id: a runner's own word may not touch another's."""
        return f"runner:{self._live.record.id}:{self._runner}"

    # --- one event ---

    def _one(self, said: link.RunnerEvent | link.Broken, events: list[ev.Event], ops: list[Op]) -> list[link.Command]:
        if isinstance(said, link.Broken):
            self._drop(said, events)
            return []
        happened: list[ev.Event] = []
        more: list[Op] = []
        answer: link.Command | None = None
        match said:
            case link.TurnStarted() if said.turn_id not in self.jobs.known and self._one_too_many():
                self._drop(link.Broken("more turns of the agent's own than an agent begins"), events)
            case link.TurnStarted():
                assert self._live.link is not None and self._live.link.hello is not None
                model = self._model
                happened, more = self.jobs.turn_started(
                    self._live.link.hello, said, model.demo if model else False, model.model if model else ""
                )
            case link.PermissionAsk():
                happened, more, answer = self.approvals.asked(self._runner, said)
            case link.QuestionAsk():
                happened, more, answer = self.questions.asked(self._runner, said)
            case link.AskCancelled():
                happened, more = self.approvals.cancelled(self._runner, said.request_id)
                also, puts = self.questions.cancelled(self._runner, said.request_id)
                happened, more = happened + also, more + puts
            case link.AgentUsage():
                if self._live.current is not None:
                    self.jobs.bills.say(self._live.current.id, said)
            case ev.SessionUpdate():
                happened, more = self._updated(said)
            case _:
                happened = [self._stamped(said)]
        events += happened
        ops += more
        return [answer] if answer is not None else []

    def _one_too_many(self) -> bool:
        self._own_turns += 1
        return self._own_turns > OWN_TURNS_MAX

    def _stamped(self, event: ev.Event) -> ev.Event:
        job = self._live.current
        return msgspec.structs.replace(event, job_id=job.id) if job is not None else event

    def _updated(self, said: ev.SessionUpdate) -> tuple[list[ev.Event], list[Op]]:
        """What the agent reports of itself. Its mode is ours to say, so that is not taken from it."""
        said = msgspec.structs.replace(said, mode=None)
        ops: list[Op] = []
        if said.claude_session_id and said.claude_session_id != self._live.record.agent_session_id:
            self._live.record = self._live.changed(agent_session_id=said.claude_session_id)
            ops.append(records.put(self._live.record))
        return [self._stamped(said)], ops

    def _drop(self, broken: link.Broken, events: list[ev.Event]) -> None:
        """Reported at the first, the tenth, the hundredth…: a runner that talks nonsense does not fill the log."""
        self.dropped += 1
        if worth_noting(self.dropped):
            text = f"The runner said something it may not ({self.dropped} so far): {broken.why[:200]}"
            events.append(self._stamped(ev.ErrorEvent(code="runner_protocol", message=text)))
            self._live.kit.note(
                "runner_protocol", session=self._live.record.id, count=self.dropped, why=broken.why[:200]
            )


def _parts(batch: list[tuple[int, Said]]) -> list[list[tuple[int, Said]]]:
    """Cut before each beginning and end of a turn."""
    parts: list[list[tuple[int, Said]]] = []
    for one in batch:
        if not parts or isinstance(one[1], link.TurnStarted | link.TurnEnded):
            parts.append([])
        parts[-1].append(one)
    return parts
