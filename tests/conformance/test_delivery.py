"""Artifacts on their way to a bucket that fails: nothing is lost, whatever happens, also over a restart."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from pilothouse.adapters.blobs.s3 import S3
from pilothouse.core.artifact import key
from pilothouse.core.errors import NotFound, Unavailable
from pilothouse.engine.records import ArtifactRecord
from pilothouse.engine.sessions import Session
from tests.conformance.bucket import NAME, House, housed
from tests.engine.test_artifacts import Shop, begun

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house() -> AsyncIterator[House]:
    async with housed() as made:
        yield made


class Bound(Shop):
    """A shop whose artifacts go to a bucket; each server has a client of its own."""

    bucket: House

    async def start(self) -> None:
        self.remote = S3(self.bucket.bucket(), part=5 * 1024 * 1024, read_s=0.3)
        await super().start()


@pytest_asyncio.fixture(loop_scope="module")
async def shop(tmp_path: Path, house: House) -> AsyncIterator[Shop]:
    house.relay.mode = ""
    house.relay.failed.clear()
    made = Bound(home=tmp_path)
    made.bucket = house
    made.furnish()
    await made.start()
    yield made
    await made.close()


async def ended(shop: Shop, *files: tuple[str, bytes]) -> tuple[Session, list[ArtifactRecord]]:
    session, folder, _, runner, job = await begun(shop)
    for name, data in files:
        (folder / name).write_bytes(data)
    await shop.end(session, runner, job)
    return session, list((await shop.made(session)).values())


async def delivered(shop: Shop, session: Session) -> list[ArtifactRecord]:
    """Once they are; the pauses between the tries are wound away."""
    while any(one.state == "waiting" for one in (await shop.made(session)).values()):
        await asyncio.sleep(0.02)
        await shop.clock.wind(301)
    return list((await shop.made(session)).values())


async def stored(house: House, record: ArtifactRecord) -> bytes:
    client: Any = house.client
    name = key(record.prefix, record.path)
    return await asyncio.to_thread(lambda: client.get_object(Bucket=NAME, Key=name)["Body"].read())


async def test_a_job_does_not_wait_for_the_bucket_and_files_leave_this_machine(shop: Shop, house: House) -> None:
    session, records = await ended(shop, ("a.txt", b"one"), ("b.txt", b"two"))
    assert {one.state for one in records} <= {"waiting", "stored"}
    for record in await delivered(shop, session):
        assert await stored(house, record) == await shop.text(record)
        assert shop.kept.place(record)[0] == f"s3://{NAME}/{key(record.prefix, record.path)}"
    while list((shop.home or Path()).glob("artifacts/o*/*/*")):  # outputs and objects
        await asyncio.sleep(0.01)
    assert await shop.store.scan("upload") == []


@pytest.mark.parametrize("mode", ["unavailable", "denied", "silent", "gone", "cut"])
async def test_what_cannot_be_uploaded_is_here_until_it_can(shop: Shop, house: House, mode: Any) -> None:
    house.relay.mode, house.relay.cut_after = mode, 200_000
    large = b"z" * 6 * 1024 * 1024
    session, records = await ended(shop, ("large", large))
    await house.relay.failed.wait()
    assert [one.state for one in records] == ["waiting"]
    assert await shop.text(records[0]) == large  # people have it all the same
    await shop.restart()
    session = await shop.sessions.found(session.live.record.id) or session
    assert await shop.text(records[0]) == large
    house.relay.mode = ""
    (record,) = await delivered(shop, session)
    assert (record.state, record.sha256) == ("stored", records[0].sha256)
    assert await stored(house, record) == large


async def test_a_bucket_that_goes_half_way_gets_the_rest_later(shop: Shop, house: House) -> None:
    real = shop.remote.put  # type: ignore[union-attr]
    done: list[str] = []

    async def put(name: str, *rest: Any) -> None:
        if 3 <= len(done) < 100:
            house.relay.mode = "gone"
        await real(name, *rest)
        done.append(name)

    shop.remote.put = put  # type: ignore[union-attr,method-assign]
    session, _ = await ended(shop, *((f"{n}", f"{n}".encode() * 10) for n in range(12)))
    await house.relay.failed.wait()
    assert any(one.state == "waiting" for one in (await shop.made(session)).values())
    done += ["no more faults"] * 100
    house.relay.mode = ""
    records = await delivered(shop, session)
    assert len(records) == 12
    for record in records:
        assert await stored(house, record) == record.path.encode() * 10


async def test_a_session_that_is_deleted_while_the_bucket_is_gone(shop: Shop, house: House) -> None:
    session, records = await ended(shop, ("a", b"one"))
    (record,) = await delivered(shop, session)
    house.relay.mode = "gone"
    await shop.sessions.delete(session)
    await house.relay.failed.wait()
    assert len(await shop.store.scan("discard")) == 1
    assert await stored(house, record) == b"one"
    await shop.restart()
    house.relay.mode = ""
    while await shop.store.scan("discard"):
        await asyncio.sleep(0.02)
        await shop.clock.wind(301)
    client: Any = house.client
    with pytest.raises(client.exceptions.NoSuchKey):
        await stored(house, record)
    with pytest.raises(NotFound):
        await shop.kept.get(records[0].id)


async def test_a_file_that_somebody_removed_from_the_disk_is_said_to_be_lost(shop: Shop, house: House) -> None:
    house.relay.mode = "denied"
    session, _ = await ended(shop, ("a", b"one"))
    await house.relay.failed.wait()
    for path in (shop.home or Path()).glob("artifacts/outputs/*/a"):
        path.unlink()
    house.relay.mode = ""
    (record,) = await delivered(shop, session)
    assert (record.state, record.reason) == ("skipped", "lost")


async def test_what_may_not_be_removed_holds_up_nothing(shop: Shop, house: House) -> None:
    session, _ = await ended(shop, ("a", b"one"))
    other, _ = await ended(shop, ("b", b"two"))
    (first, second) = [(await delivered(shop, one))[0] for one in (session, other)]
    real = shop.remote.drop  # type: ignore[union-attr]
    refused = min(first, second, key=lambda one: one.job).prefix  # the first that is tried

    async def drop(prefix: str) -> None:
        if prefix == refused:
            raise Unavailable("the role may not do that")
        await real(prefix)

    shop.remote.drop = drop  # type: ignore[union-attr,method-assign]
    await shop.sessions.delete(session)
    await shop.sessions.delete(other)
    third, _ = await ended(shop, ("c", b"three"))
    async with asyncio.timeout(10):
        await delivered(shop, third)
        while [doc.decode() for _, doc in await shop.store.scan("discard")] != [refused]:
            await asyncio.sleep(0.02)
            await shop.clock.wind(301)
    shop.remote.drop = real  # type: ignore[union-attr,method-assign]


async def test_files_that_are_always_refused_hold_up_none_behind_them(shop: Shop) -> None:
    refused: set[str] = set()
    real = shop.remote.put  # type: ignore[union-attr]

    async def put(name: str, *rest: Any) -> None:
        if len(refused) < 4 or name in refused:
            refused.add(name)
            raise Unavailable("this one never")
        await real(name, *rest)

    shop.remote.put = put  # type: ignore[union-attr,method-assign]
    session, _ = await ended(shop, *((f"{n}", b"x%d" % n) for n in range(6)))
    async with asyncio.timeout(20):
        while sum(one.state == "stored" for one in (await shop.made(session)).values()) < 2:
            await asyncio.sleep(0.02)
            await shop.clock.wind(301)
    shop.remote.put = real  # type: ignore[union-attr,method-assign]
