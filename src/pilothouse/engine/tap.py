"""What the logs of sessions say, counted: jobs, approvals, tool calls, the first text.

It hears every row when it is committed, and reads of most no more than their type, which stands first. What a server
before this one appended is not counted again; of a job that it had begun, the end is counted and not how long it took
to its first text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from pilothouse.core.ids import SessionId
from pilothouse.engine.metrics import Metrics
from pilothouse.engine.ports import Clock, Row

KNOWN_MAX = 10_000
"""Jobs and approvals remembered until they end: more than there can be at one time, and no end may be missed for good
because a session was deleted."""
_TYPE = len(b'{"type":"')
UNKNOWN = "unknown"


class _Seen(msgspec.Struct, rename="camel"):
    job_id: str = ""
    agent: str = ""
    demo: bool = False
    steer: bool = False
    outcome: str = ""
    approval_id: str = ""
    is_error: bool = False


@dataclass(slots=True)
class _Job:
    agent: str
    demo: str = UNKNOWN
    accepted: float | None = None
    started: float | None = None


K = TypeVar("K")
V = TypeVar("V")
_seen = msgspec.json.Decoder(_Seen)


class Tap:
    def __init__(self, metrics: Metrics, clock: Clock, agent_of: Callable[[SessionId], str]) -> None:
        self._metrics = metrics
        self._clock = clock
        self._agent_of = agent_of
        self._jobs: dict[str, _Job] = {}
        self._asked: dict[str, float] = {}
        self._silent: dict[SessionId, _Job] = {}
        """Jobs that have started and said nothing yet."""
        self._acts: dict[bytes, Callable[[SessionId, _Seen], None]] = {
            b"chat": self._chat,
            b"job_started": self._started,
            b"tool_result": self._tool,
            b"approval_required": self._required,
            b"approval_resolved": self._resolved,
            b"complete": self._complete,
        }
        self._names: dict[bytes, tuple[str]] = {}

    def rows(self, session: SessionId, rows: Sequence[Row]) -> None:
        """For `Log.on_rows`."""
        count, acts, size = self._metrics.rows, self._acts, 0
        for row in rows:
            body = row.body
            size += len(body)
            kind = body[_TYPE : body.find(b'"', _TYPE)]
            count.add(self._names.get(kind) or self._name(kind))
            if kind in acts:
                acts[kind](session, _seen.decode(body))
            elif session in self._silent and kind in {b"stream", b"thinking"}:
                job = self._silent.pop(session)
                if job.started is not None:
                    self._metrics.first_s.add(self._clock.now() - job.started, (job.agent, job.demo))
        self._metrics.row_bytes.add((), size)

    def _name(self, kind: bytes) -> tuple[str]:
        name = (kind.decode("ascii", "replace"),)
        if len(self._names) < KNOWN_MAX:
            self._names[kind] = name
        return name

    def _chat(self, session: SessionId, said: _Seen) -> None:
        if said.steer:
            return
        job = _Job(self._agent_of(session), accepted=self._clock.now())
        self._metrics.accepted.add((job.agent,))
        _keep(self._jobs, said.job_id, job)

    def _started(self, session: SessionId, said: _Seen) -> None:
        job = self._jobs.get(said.job_id) or _Job(said.agent)
        job.agent, job.demo, job.started = said.agent, str(said.demo).lower(), self._clock.now()
        _keep(self._jobs, said.job_id, job)
        _keep(self._silent, session, job)
        self._metrics.started.add((job.agent, job.demo))
        if job.accepted is not None:
            self._metrics.queued_s.add(job.started - job.accepted, (job.agent,))

    def _tool(self, session: SessionId, said: _Seen) -> None:
        self._metrics.tools.add((self._agent_of(session), "error" if said.is_error else "ok"))

    def _required(self, session: SessionId, said: _Seen) -> None:
        self._metrics.asked.add()
        _keep(self._asked, said.approval_id, self._clock.now())

    def _resolved(self, session: SessionId, said: _Seen) -> None:
        self._metrics.decided.add((said.outcome,))
        since = self._asked.pop(said.approval_id, None)
        if since is not None:
            self._metrics.decided_s.add(self._clock.now() - since, (said.outcome,))

    def _complete(self, session: SessionId, said: _Seen) -> None:
        job = self._jobs.pop(said.job_id, None) or _Job(self._agent_of(session))
        if self._silent.get(session) is job:
            del self._silent[session]
        self._metrics.ended.add((job.agent, job.demo, said.outcome))
        if job.started is not None:
            self._metrics.job_s.add(self._clock.now() - job.started, (job.agent, job.demo))


def _keep(known: dict[K, V], key: K, value: V) -> None:
    """The oldest goes when there are too many."""
    known[key] = value
    if len(known) > KNOWN_MAX:
        del known[next(iter(known))]
