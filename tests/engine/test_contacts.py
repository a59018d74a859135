"""What the proxy counted, in the ledger: once, for ever, and shown to whoever follows."""

from __future__ import annotations

import asyncio
from contextlib import aclosing

import pytest

from pilothouse.core import reach
from pilothouse.core.access import Principal, Scope
from pilothouse.core.contacts import Contact
from pilothouse.core.errors import BadRequest, Forbidden, NotFound
from pilothouse.core.ids import SessionId
from pilothouse.core.reach import Reach
from pilothouse.engine import allowance
from pilothouse.engine.contacts import NetworkIntake
from pilothouse.engine.kit import Limits
from pilothouse.engine.network import Network
from pilothouse.engine.records import Egress
from pilothouse.engine.sessions import Session
from tests.engine.conftest import Bench
from tests.engine.fakes import LOCAL

CONFIGURED = Reach("allow", reach.domains(["pypi.org", "*.crates.io"], "domains"), 120.0)


def contact(session: Session, n: int, host: str = "pypi.org", count: int = 1, proxy: str = "p1") -> Contact:
    return Contact(
        proxy, n, session.live.record.id, host, 443, "listed", count, 1_800_000_000.0 + n, 1_800_000_001.0, n, 2
    )


async def take(bench: Bench, *batches: list[Contact]) -> NetworkIntake:
    intake = NetworkIntake(bench.sessions.kit, bench.sessions)
    for batch in batches:
        bench.models.met.put_nowait(batch)
    bench.models.met.put_nowait(None)
    await intake._contacts()
    return intake


async def test_a_batch_that_comes_again_changes_nothing(bench: Bench) -> None:
    session = await bench.session()
    network = Network(bench.sessions.kit, bench.sessions)
    batch = [contact(session, 1), contact(session, 2, "evil.test", 3)]
    await take(bench, batch, batch)
    await take(bench, [contact(session, 3, count=5)], batch)
    assert bench.models.marks == [("p1", 2)]
    shown = (await network.view(session)).contacts
    assert {c.host: c.count for c in shown} == {"pypi.org": 5, "evil.test": 3}
    await bench.restart()
    again = await bench.sessions.get(session.live.record.id, LOCAL)
    shown = (await Network(bench.sessions.kit, bench.sessions).view(again)).contacts
    assert {c.host: c.count for c in shown} == {"pypi.org": 5, "evil.test": 3}


async def test_figures_of_a_proxy_that_lost_its_home_are_added(bench: Bench) -> None:
    session = await bench.session()
    await take(bench, [contact(session, 7, count=2)], [contact(session, 1, count=3, proxy="p2")])
    (shown,) = (await Network(bench.sessions.kit, bench.sessions).view(session)).contacts
    assert (shown.count, shown.bytes_in, shown.verdict) == (5, 8, "allowed")
    assert shown.first == "2027-01-15T08:00:01.000Z"


async def test_of_a_session_that_is_deleted_nothing_is_kept(bench: Bench) -> None:
    session, other = await bench.session(), await bench.session()
    sid = session.live.record.id
    await take(bench, [contact(session, 1)])
    await bench.sessions.delete(session)
    assert bench.models.forgotten == [sid]
    await take(bench, [contact(session, 2), contact(other, 3)])
    assert bench.models.forgotten == [sid, sid]
    assert await bench.store.scan("contact", owner=sid) == []
    assert len(await bench.store.scan("contact")) == 1


async def test_whoever_follows_gets_all_then_what_changes_then_the_end(bench: Bench) -> None:
    session = await bench.session()
    network = Network(bench.sessions.kit, bench.sessions)
    await take(bench, [contact(session, 1)])
    async with aclosing(network.follow(session.live.record.id, LOCAL)) as views:
        view = await anext(views)
        assert (view.policy, [c.host for c in view.contacts]) == ("off", ["pypi.org"])
        await take(bench, [contact(session, 2, "new.example")])
        view = await anext(views)
        assert [c.host for c in view.contacts] == ["new.example"]
        await network.change(session, Egress(policy="full"), "ann")
        view = await anext(views)
        assert (view.policy, view.contacts) == ("full", [])
        ending = asyncio.ensure_future(anext(views))
        await asyncio.sleep(0)
        await bench.sessions.delete(session)
        with pytest.raises(NotFound):
            await ending


def who(*scopes: Scope) -> Principal:
    return Principal("key", "k", "k", "local", frozenset(scopes), "c")


def test_what_one_may_wish_for() -> None:
    run, approver, admin = who("read", "run"), who("read", "run", "approve"), who("read", "run", "admin")
    assert allowance.wished(None, None, CONFIGURED, run) is None
    for policy, domains in [("off", None), ("allow", None), ("allow", ["pypi.org", "a.crates.io"]), (None, [])]:
        assert allowance.wished(policy, domains, CONFIGURED, run) is not None
    with pytest.raises(Forbidden, match="'approve'"):
        allowance.wished("allow", ["pypi.org:22"], CONFIGURED, run)
    assert allowance.wished("allow", ["other.org"], CONFIGURED, approver) == Egress(
        policy="allow", domains=["other.org"]
    )
    for lesser in (run, approver):
        with pytest.raises(Forbidden, match="'admin'"):
            allowance.wished("full", None, CONFIGURED, lesser)
        with pytest.raises(Forbidden, match="'admin'"):
            allowance.wished("allow", ["pypi.org"], Reach("off", CONFIGURED.domains), lesser)
    assert allowance.wished("full", None, CONFIGURED, admin) == Egress(policy="full")
    for policy, domains, field in [
        ("on", None, "policy"), ("allow", ["a b"], "domains"), ("full", ["a.org"], "domains"), ("off", [], "domains"),
    ]:  # fmt: skip
        with pytest.raises(BadRequest, match=rf"egress\.{field}"):
            allowance.wished(policy, domains, CONFIGURED, admin)


async def test_a_session_without_a_word_of_its_own_follows_the_configuration(bench: Bench) -> None:
    session = await bench.session()
    record = session.live.record
    assert allowance.of(record, CONFIGURED) == CONFIGURED
    record.egress = Egress(policy="off")
    assert allowance.of(record, CONFIGURED) == Reach("off")
    record.egress = Egress(policy="allow", domains=["a.org"], approved=["b.org:443"])
    assert [str(d) for d in allowance.of(record, CONFIGURED).domains] == ["a.org", "b.org:443"]
    record.egress = Egress(policy="newer than this version")
    assert allowance.of(record, CONFIGURED) == Reach("off"), "what cannot be read allows nothing"


async def test_the_proxy_is_told_before_anything_runs_and_at_every_change(bench: Bench) -> None:
    await bench.sessions.close()
    bench.limits = Limits(egress=CONFIGURED)
    await bench.start()
    session = await bench.sessions.create(owner="local", agent="echo", egress=Egress(policy="allow", domains=["a.org"]))
    sid: SessionId = session.live.record.id
    network = Network(bench.sessions.kit, bench.sessions)
    await network.change(session, Egress(policy="off"), "ann")
    assert sid not in bench.models.reaches, "nothing runs: it is told when something does"
    await bench.run(session)
    assert bench.models.reaches[sid] == Reach("off")
    await network.change(session, None, "ann")
    assert bench.models.reaches[sid] == CONFIGURED
    bench.models.reaches.clear()  # the proxy is another one, and so is the server
    await bench.restart()
    while sid not in bench.models.reaches:
        await asyncio.sleep(0)
    assert bench.models.reaches[sid] == CONFIGURED
