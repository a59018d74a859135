"""What was spent: numbered usage records in an append-only file, sums per job and session, budgets.

Spool `<home>/proxy/usage-<proxyId>.ndjson`: one `UsageRecord` a line, `n` from 1 without holes. The id is in the name,
so that it lives as long as the numbers do. A last line without its end (the proxy was killed while it wrote) is cut off
when the spool is opened. While the disk is full, records are kept and counted in memory and written as soon as it takes
them; meanwhile the spool is marked as one that lacks some (nobody may write it): whoever follows has their numbers, so
a proxy that finds the mark does not give them again, but begins another spool. A spool with a line that is no record is
read up to it and never written again. A spool over SPOOL_MAX is followed
by a new one at the next start; the old ones stay, because the budgets of sessions are counted from them too.
"""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncGenerator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from pilothouse.core.ids import JobId, SessionId
from pilothouse.core.prices import Price, Tokens, cost
from pilothouse.engine.ports import Budget, UsageRecord

SPOOL_MAX = 64 * 1024 * 1024
"""About 200 000 calls; reading it takes a second at start."""
_PREFIX, _SUFFIX = "usage-", ".ndjson"

_WHOLE, _LACKING = 0o600, 0o400

_encode = msgspec.json.Encoder().encode
_record = msgspec.json.Decoder(UsageRecord)


@dataclass(slots=True)
class _Account:
    jobs: dict[JobId, UsageRecord] = field(default_factory=dict)
    cost_usd: float = 0.0


class Ledger:
    """One per proxy. Appending is a `write` to the page cache, which survives the death of the process."""

    def __init__(self, home: Path) -> None:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._accounts: dict[SessionId, _Account] = {}
        self._records: dict[str, list[UsageRecord]] = {}
        self._grown = asyncio.Event()
        self._broken: set[Path] = set()
        self._unwritten = bytearray()
        self._lacking = False
        newest: Path | None = None
        for path in sorted(home.glob(f"{_PREFIX}*{_SUFFIX}"), key=lambda p: p.stat().st_mtime):
            if not self._load(path) or _lacks(path):
                self._broken.add(path)
            newest = path
        if newest is None or newest in self._broken or newest.stat().st_size > SPOOL_MAX:
            newest = home / f"{_PREFIX}{uuid.uuid4()}{_SUFFIX}"
        self.proxy_id = _id(newest)
        self._mine = self._records.setdefault(self.proxy_id, [])
        self._fd = os.open(newest, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _load(self, path: Path) -> bool:
        """Whether all of it could be read."""
        data = path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data) and not _lacks(path):
            os.truncate(path, whole)
        records = self._records.setdefault(_id(path), [])
        for line in data[:whole].splitlines():
            try:
                records.append(_record.decode(line))
            except msgspec.MsgspecError:
                return False
            self._sum(records[-1])
        return True

    def _sum(self, record: UsageRecord) -> None:
        account = self._accounts.setdefault(record.session, _Account())
        account.cost_usd += record.cost_usd
        if record.job is None:
            return
        before = account.jobs.get(record.job)
        account.jobs[record.job] = record if before is None else _added(before, record)

    def write(
        self,
        session: SessionId,
        job: JobId | None,
        model: str,
        status: int,
        tokens: Tokens,
        price: Price,
        refused: str = "",
        *,
        since: float | None = None,
        guessed: bool = False,
    ) -> None:
        """`since`: when the call began, which ends now. `guessed`: its tokens."""
        now = time.time()
        since = now if since is None else min(since, now)  # a clock that is set back makes no call negative
        record = UsageRecord(
            proxy_id=self.proxy_id,
            n=len(self._mine) + 1,
            session=session,
            job=job,
            model=model,
            status=status,
            input_tokens=tokens.input,
            output_tokens=tokens.output,
            cache_read_tokens=tokens.cache_read,
            cache_write_tokens=tokens.cache_write,
            cost_usd=cost(price, tokens),
            refused=refused,
            price_guessed=price.guessed,
            at=since,
            ms=round((now - since) * 1000),
            tokens_guessed=guessed,
        )
        self._unwritten += _encode(record) + b"\n"
        with suppress(OSError):
            while self._unwritten:
                del self._unwritten[: os.write(self._fd, self._unwritten)]
        self._mark(bool(self._unwritten))
        self._mine.append(record)
        self._sum(record)
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    def _mark(self, lacking: bool) -> None:
        """In the file's mode, which needs no room on the disk."""
        if lacking != self._lacking:
            with suppress(OSError):
                os.fchmod(self._fd, _LACKING if lacking else _WHOLE)
                self._lacking = lacking

    def spent(self, session: SessionId, job: JobId) -> UsageRecord | None:
        account = self._accounts.get(session)
        return account.jobs.get(job) if account else None

    def over(self, session: SessionId, job: JobId | None, budget: Budget) -> str:
        """Which budget is used up, as a sentence for the person; "" when none."""
        account = self._accounts.get(session, _Account())
        total = account.jobs.get(job) if job else None
        if total is not None:
            if budget.max_cost_usd is not None and total.cost_usd >= budget.max_cost_usd:
                return f"This job's budget of ${budget.max_cost_usd:g} is used up (${total.cost_usd:.4f} spent)."
            used = _tokens(total)
            if budget.max_tokens is not None and used >= budget.max_tokens:
                return f"This job's budget of {budget.max_tokens} tokens is used up ({used} used)."
        elif budget.max_cost_usd == 0 or budget.max_tokens == 0:
            return "This job has a budget of nothing."
        most = budget.session_max_cost_usd
        if most is not None and account.cost_usd >= most:
            return f"This session's budget of ${most:g} is used up (${account.cost_usd:.4f} spent)."
        return ""

    async def follow(self, marks: Mapping[str, int]) -> AsyncGenerator[UsageRecord, None]:
        """Everything after the marks, then what comes."""
        for proxy_id, records in self._records.items():
            if proxy_id != self.proxy_id:
                for record in records[marks.get(proxy_id, 0) :]:
                    yield record
        at = marks.get(self.proxy_id, 0)
        while True:
            grown = self._grown
            while at < len(self._mine):
                at += 1
                yield self._mine[at - 1]
            await grown.wait()

    def close(self) -> None:
        os.close(self._fd)


def _id(path: Path) -> str:
    return path.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)


def _lacks(path: Path) -> bool:
    return not path.stat().st_mode & (_WHOLE & ~_LACKING)


def _tokens(record: UsageRecord) -> int:
    return record.input_tokens + record.output_tokens + record.cache_read_tokens + record.cache_write_tokens


def _added(a: UsageRecord, b: UsageRecord) -> UsageRecord:
    return replace(
        b,
        input_tokens=a.input_tokens + b.input_tokens,
        output_tokens=a.output_tokens + b.output_tokens,
        cache_read_tokens=a.cache_read_tokens + b.cache_read_tokens,
        cache_write_tokens=a.cache_write_tokens + b.cache_write_tokens,
        cost_usd=a.cost_usd + b.cost_usd,
        price_guessed=a.price_guessed or b.price_guessed,
        tokens_guessed=a.tokens_guessed or b.tokens_guessed,
        refused=b.refused or a.refused,
    )
