"""The spool: what is read back, and what happens when it cannot be written."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
from pathlib import Path

from pilothouse.adapters.proxies.ledger import Ledger
from pilothouse.core.prices import Tokens, price_of
from pilothouse.engine.ports import Budget
from tests.adapters.proxies.house import new_job, new_session

PRICE = price_of("claude-sonnet-4-5")


def test_sums_are_there_again_after_a_restart(tmp_path: Path) -> None:
    session, job = new_session(), new_job()
    first = Ledger(tmp_path)
    for _ in range(3):
        first.write(session, job, "claude-sonnet-4-5", 200, Tokens(1000, 100), PRICE)
    before = first.spent(session, job)
    first.close()
    again = Ledger(tmp_path)
    assert again.proxy_id == first.proxy_id
    assert again.spent(session, job) == before
    assert again.over(session, job, Budget(max_tokens=3300)) != ""
    assert again.over(session, job, Budget(max_tokens=3301)) == ""
    assert again.over(session, new_job(), Budget(session_max_cost_usd=0.0001)).startswith("This session's budget")
    again.close()


async def test_a_line_that_is_no_record_ends_a_spool_and_starts_another(tmp_path: Path) -> None:
    session = new_session()
    first = Ledger(tmp_path)
    for _ in range(2):
        first.write(session, None, "m", 200, Tokens(1), PRICE)
    first.close()
    (path,) = tmp_path.iterdir()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b"\xff\xff\n" + lines[1])
    again = Ledger(tmp_path)
    again.write(session, None, "m", 200, Tokens(1), PRICE)
    found = []
    async for record in again.follow({}):
        found.append((record.proxy_id == first.proxy_id, record.n))
        if len(found) == 2:
            break
    assert found == [(True, 1), (False, 1)]
    again.close()


def test_a_disk_that_takes_nothing_loses_no_record_once_it_does(tmp_path: Path) -> None:
    session, job = new_session(), new_job()
    ledger = Ledger(tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # a write stops in the middle of a line, then fails
    try:
        for _ in range(2):
            ledger.write(session, job, "m", 200, Tokens(1), PRICE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    spent = ledger.spent(session, job)
    assert spent is not None
    assert spent.input_tokens == 2
    (path,) = tmp_path.iterdir()
    assert os.stat(path).st_size == 100
    ledger.write(session, job, "m", 200, Tokens(1), PRICE)
    ledger.close()
    again = Ledger(tmp_path).spent(session, job)
    assert again is not None
    assert (again.input_tokens, again.n) == (3, 3)


async def test_a_number_that_was_followed_is_not_given_again(tmp_path: Path) -> None:
    """Killed while the disk was full: the spool lacks a record that the server has taken by its number."""
    session = new_session()
    first = Ledger(tmp_path)
    first.write(session, None, "m", 200, Tokens(1), PRICE)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    (path,) = tmp_path.iterdir()
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, hard))
    try:
        first.write(session, None, "m", 200, Tokens(2), PRICE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    taken = []
    async for record in first.follow({}):
        taken.append((record.proxy_id, record.n, record.input_tokens))
        if len(taken) == 2:
            break
    os.close(first._fd)  # killed
    again = Ledger(tmp_path)
    again.write(session, None, "m", 200, Tokens(3), PRICE)
    marks = {first.proxy_id: 2}
    async with asyncio.timeout(10):
        async for record in again.follow(marks):
            taken.append((record.proxy_id, record.n, record.input_tokens))
            break
    assert [tokens for _, _, tokens in taken] == [1, 2, 3]
    assert len({(proxy, n) for proxy, n, _ in taken}) == 3
    again.close()
