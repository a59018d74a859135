"""Contacts: counted, bounded, numbered, kept."""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from pilothouse.adapters.proxies import contacts
from pilothouse.adapters.proxies.contacts import Contacts
from pilothouse.core.contacts import HOSTS_MAX, Contact
from pilothouse.core.reach import Target
from tests.adapters.proxies.house import new_session

PYPI = Target("pypi.org", 443)
EVIL = Target("evil.test", 443)


async def first(found: AsyncIterator[list[Contact]]) -> list[Contact]:
    return await anext(found)


async def changed(made: Contacts, after: int = 0) -> list[Contact]:
    async with aclosing(made.follow({made.proxy_id: after})) as batches:
        return await first(batches)


async def test_rows_are_counted_and_told_by_the_number_of_their_last_change(tmp_path: Path) -> None:
    times = itertools.count(1000)
    made = Contacts(tmp_path, lambda: float(next(times)))
    session = new_session()
    key = made.note(session, PYPI, "listed")
    made.note(session, EVIL, "not_listed")
    one, two = await changed(made)
    assert (one.n, one.host, one.port, one.reason, one.count) == (1, "pypi.org", 443, "listed", 1)
    assert (two.n, two.host, two.reason, two.first) == (2, "evil.test", "not_listed", 1001.0)
    made.moved(key, 10, 20)
    made.note(session, PYPI, "listed")
    made._flush_dirty()
    (again,) = await changed(made, 2)  # the one that has not changed is not told again
    assert (again.n, again.host, again.count) == (3, "pypi.org", 2)
    assert (again.bytes_in, again.bytes_out, again.first, again.last) == (10, 20, 1000.0, 1003.0)
    made.close()


async def test_they_outlive_a_proxy_that_is_killed(tmp_path: Path) -> None:
    first, session = Contacts(tmp_path), new_session()
    first.note(session, PYPI, "listed")
    first.note(session, EVIL, "not_listed")
    first.note(session, EVIL, "not_listed")
    first._flush_dirty()
    (spool,) = tmp_path.glob("contacts-*")
    spool.write_bytes(spool.read_bytes() + b'{"forget":"","row":{"proxy_id":"x","n"')  # cut while it wrote
    second = Contacts(tmp_path)
    assert second.proxy_id == first.proxy_id
    second.note(session, EVIL, "not_listed")
    second._flush_dirty()
    rows = await changed(second)
    assert [(c.host, c.count, c.n) for c in rows] == [("pypi.org", 1, 1), ("evil.test", 3, 4)]
    assert [(c.host, c.n) for c in await changed(second, 3)] == [("evil.test", 4)]
    assert os.stat(spool).st_mode & 0o777 == 0o600
    first.close()
    second.close()


async def test_a_mark_of_a_spool_that_is_gone_gets_everything(tmp_path: Path) -> None:
    made = Contacts(tmp_path)
    made.note(new_session(), PYPI, "listed")
    assert len(await changed(made, after=99)) == 1
    made.close()


async def test_a_scan_of_hosts_is_counted_together(tmp_path: Path) -> None:
    made, session, other = Contacts(tmp_path), new_session(), new_session()
    for n in range(HOSTS_MAX + 20):
        made.note(session, Target(f"h{n}.example", 443), "not_listed")
    made.note(other, PYPI, "listed")
    made._flush_dirty()
    rows = made._after(0)
    assert len(rows) == HOSTS_MAX + 2
    (rest,) = [c for c in rows if not c.host]
    assert (rest.session, rest.reason, rest.count) == (session, "not_listed", 20)
    made.close()
    again = Contacts(tmp_path)
    again.note(session, Target("more.example", 443), "not_listed")
    assert len(again._after(0)) == HOSTS_MAX + 2
    again.close()


async def test_a_deleted_session_is_forgotten_for_good(tmp_path: Path) -> None:
    made, session = Contacts(tmp_path), new_session()
    made.note(session, PYPI, "listed")
    made.note(session, PYPI, "listed")
    made.forget(session)
    made.forget(session)
    made._flush_dirty()
    made.moved((session, "pypi.org", 443, "listed"), 1, 1)
    made.close()
    again = Contacts(tmp_path)
    assert again._after(0) == []
    again.close()


async def test_the_spool_is_written_anew_when_it_has_grown(tmp_path: Path) -> None:
    made, session = Contacts(tmp_path), new_session()
    lines = contacts.SPOOL_MIN // 200
    for _ in range(lines):
        made.note(session, EVIL, "not_listed")
        made._flush_dirty()
    (spool,) = tmp_path.glob("contacts-*")
    assert spool.stat().st_size < contacts.SPOOL_MIN / 2
    assert json.loads(spool.read_bytes().splitlines()[-1])["row"]["count"] == lines
    made.close()


async def test_a_full_disk_loses_nothing_that_is_in_memory(tmp_path: Path) -> None:
    made, session = Contacts(tmp_path), new_session()
    real, made._fd = made._fd, os.open("/dev/full", os.O_WRONLY)
    made.note(session, PYPI, "listed")
    assert [c.host for c in await changed(made)] == ["pypi.org"]
    os.close(made._fd)
    made._fd = real
    made.note(session, EVIL, "not_listed")
    made.close()
    again = Contacts(tmp_path)
    assert [c.host for c in again._after(0)] == ["evil.test"]
    again.close()
