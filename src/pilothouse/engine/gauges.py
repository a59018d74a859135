"""What there is at this moment, looked at when somebody asks."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator

from pilothouse.core.exposition import Family, counter, gauge, split
from pilothouse.engine.channels import Channels
from pilothouse.engine.dialogs import Dialogs
from pilothouse.engine.ports import Vitals
from pilothouse.engine.sessions import Sessions
from pilothouse.engine.terminals import Terminals

STATES = ("new", "active", "idle", "stopped", "lost")


def of_sessions(sessions: Sessions, resting: Tally[str]) -> Iterator[Family]:
    """What is active or idle is always in memory, and newer there."""
    here = sessions.every()
    states: Tally[str] = Tally(s.live.record.state for s in here)
    counts = [(state, states[state] if state in {"active", "idle"} else resting[state]) for state in STATES]
    yield split("pilothouse_sessions", "Sessions by state.", "state", counts)
    queued = sum(len(s.jobs.queue) for s in here)
    running = sum(1 for s in here for job in s.jobs.known.values() if job.state == "running")
    yield split("pilothouse_jobs", "Jobs that are not done.", "state", [("queued", queued), ("running", running)])
    approvals = sum(len(s.approvals.pending) for s in here)
    yield gauge("pilothouse_approvals_waiting", "Approvals without an answer.", approvals)
    questions = sum(len(s.questions.pending) for s in here)
    yield gauge("pilothouse_questions_waiting", "Questions without an answer.", questions)


def of_terminals(terminals: Terminals) -> Iterator[Family]:
    every = list(terminals.every())
    yield gauge("pilothouse_shells", "Shells that run.", sum(1 for t in every if t.shell.ended is None))
    yield gauge("pilothouse_shell_viewers", "Connections that look at a shell.", sum(len(t.viewers) for t in every))


def of_channels(channels: Channels, dialogs: Dialogs | None) -> Iterator[Family]:
    fanout = channels.fanout
    yield counter("pilothouse_events_published_total", "Events of the event API taken.", channels.published)
    yield counter("pilothouse_events_delivered_total", "Events written to subscribers.", fanout.delivered)
    yield counter("pilothouse_event_subscribers_slow_total", "Subscribers sent away as too slow.", fanout.slow)
    subscriptions = channels.subscriptions + (dialogs.subscriptions if dialogs is not None else 0)
    yield gauge("pilothouse_event_subscriptions", "Subscriptions to channels.", subscriptions)


def of_process(vitals: Vitals) -> Iterator[Family]:
    """By the names that every dashboard knows."""
    yield counter("process_cpu_seconds_total", "Processor time of the server's process.", vitals.cpu_s)
    yield gauge("process_start_time_seconds", "When it started, in seconds since 1970.", vitals.started_at)
    if vitals.resident is not None:
        yield gauge("process_resident_memory_bytes", "Memory of it that is resident.", vitals.resident)
    if vitals.fds is not None:
        yield gauge("process_open_fds", "File descriptors open.", vitals.fds)
    yield gauge("process_max_fds", "File descriptors it may open.", vitals.fds_max)
