"""What the server counts of itself since it started. Gauges, which are only looked at when somebody asks, are in
`gauges`; the names as an operator reads them are in docs/metrics.md.

No label is an id, a path or a person's text. A label that comes from outside (a model's name) is bounded by its meter.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from pilothouse.core.exposition import Family
from pilothouse.core.meters import LONG, Counter, Histogram
from pilothouse.engine.ports import UsageRecord

MODELS = 50
"""Names of models that are told apart: an agent may ask for any name."""
LAG_EVERY_S = 1.0
"""How often it is looked whether the event loop is late."""
LAG = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
COMMIT = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)


def _count(name: str, help: str, *labels: str, most: int = 400) -> Counter:
    return field(default_factory=lambda: Counter(f"pilothouse_{name}", help, *labels, most=most))


def _spread(name: str, help: str, *labels: str, bounds: tuple[float, ...] = LONG, most: int = 400) -> Histogram:
    return field(default_factory=lambda: Histogram(f"pilothouse_{name}", help, *labels, bounds=bounds, most=most))


@dataclass(frozen=True, slots=True)
class Metrics:
    requests: Counter = _count("http_requests_total", "Requests answered.", "method", "route", "status")
    request_s: Histogram = field(
        default_factory=lambda: Histogram(
            "pilothouse_http_request_duration_seconds", "Until the answer begins.", "method", "route"
        )
    )
    refused: Counter = _count("refused_total", "Requests and messages refused, by the code they were told.", "reason")
    upgrades: Counter = _count("websocket_upgrades_total", "WebSockets asked for.", "door", "status")
    accepted: Counter = _count("jobs_accepted_total", "Prompts accepted.", "agent")
    started: Counter = _count("jobs_started_total", "Jobs handed to an agent.", "agent", "demo")
    ended: Counter = _count("jobs_ended_total", "Jobs that are done.", "agent", "demo", "outcome")
    job_s: Histogram = _spread("job_duration_seconds", "From start to end of a job.", "agent", "demo")
    queued_s: Histogram = _spread("job_wait_seconds", "From a prompt's acceptance to its start.", "agent")
    first_s: Histogram = _spread("job_first_token_seconds", "From a job's start to its first text.", "agent", "demo")
    tools: Counter = _count("tool_calls_total", "Tool calls that ended.", "agent", "result")
    calls: Counter = _count("model_calls_total", "Model calls.", "model", "status", most=4 * MODELS)
    call_s: Histogram = _spread("model_call_duration_seconds", "Model calls, to their end.", "model", most=MODELS)
    tokens: Counter = _count("model_tokens_total", "Tokens as metered.", "model", "kind", most=4 * MODELS)
    cost: Counter = _count(
        "model_cost_usd_total", "Cost by price list; `guessed`: of no list.", "model", "price", most=2 * MODELS
    )
    asked: Counter = _count("approvals_asked_total", "Approvals asked for.")
    decided: Counter = _count("approvals_decided_total", "Approvals that have their answer.", "outcome")
    decided_s: Histogram = _spread("approval_wait_seconds", "From asking to the answer.", "outcome")
    rows: Counter = _count("log_rows_total", "Events appended to sessions' logs.", "type", most=40)
    row_bytes: Counter = _count("log_bytes_total", "Their bytes.")
    commit_s: Histogram = field(
        default_factory=lambda: Histogram(
            "pilothouse_store_commit_duration_seconds", "Commits of the store, waiting in line included.", bounds=COMMIT
        )
    )
    commits_failed: Counter = _count("store_commit_failures_total", "Commits that the store did not take.")
    lag: Histogram = field(
        default_factory=lambda: Histogram(
            "pilothouse_event_loop_lag_seconds", "How late the event loop was, looked at every second.", bounds=LAG
        )
    )

    sources: list[Callable[[], Iterable[Family]]] = field(default_factory=list)
    """Whoever knows what there is at this moment."""

    def families(self) -> list[Family]:
        counted = [getattr(self, name) for name in self.__dataclass_fields__ if name != "sources"]
        return [*(meter.family() for meter in counted), *(family for source in self.sources for family in source())]

    def called(self, record: UsageRecord) -> None:
        """A model call, when its record is taken: once."""
        model = record.model or "unknown"
        self.calls.add((model, record.refused or str(record.status)))
        if record.ms is not None:
            self.call_s.add(record.ms / 1000, (model,))
        self.cost.add((model, "guessed" if record.price_guessed else "listed"), record.cost_usd)
        for kind, n in (
            ("input", record.input_tokens),
            ("output", record.output_tokens),
            ("cache_read", record.cache_read_tokens),
            ("cache_write", record.cache_write_tokens),
        ):
            self.tokens.add((model, kind), n)


class Lag:
    """Looks at the event loop: what comes later than it was to come has waited behind something."""

    def __init__(self, spread: Histogram) -> None:
        self._spread = spread
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LAG_EVERY_S, self._look, loop.time() + LAG_EVERY_S)

    def _look(self, due: float) -> None:
        self._spread.add(max(asyncio.get_running_loop().time() - due, 0.0))
        self.start()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
