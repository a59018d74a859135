"""A parser that is lent: frames come out the same however the bytes are cut, and nobody gets another's."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
from collections.abc import Iterator

import pytest
from picows import WSFrame

from pilothouse.web import readers
from pilothouse.web.readers import IDLE_MAX, SHORT, Reader, Readers
from pilothouse.web.socket import Limits
from tests.engine.fakes import some_turns
from tests.web.doorhouse import Raw, house

MESSAGE = 300_000


class Wire:
    """One connection's bytes."""

    def __init__(self) -> None:
        self.reader: Reader | None = None
        self.heard: list[tuple[int, bytes]] = []
        self.said: list[bytes] = []

    def on_frame(self, frame: WSFrame) -> None:
        self.heard.append((frame.msg_type.value, frame.get_payload_as_bytes()))

    def on_mistake(self, said: bytes) -> None:
        self.said.append(said)


def frame(opcode: int, data: bytes, mask: bytes = b"mask") -> bytes:
    size = len(data)
    if size < 126:
        head = bytes((0x80 | opcode, 0x80 | size))
    elif size < 1 << 16:
        head = bytes((0x80 | opcode, 0xFE)) + size.to_bytes(2)
    else:
        head = bytes((0x80 | opcode, 0xFF)) + size.to_bytes(8)
    return head + mask + bytes(byte ^ mask[n % 4] for n, byte in enumerate(data))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The buffers of all that were made."""
    sizes: list[int] = []
    real = readers._picows

    def counting(listener: Reader, message: int, buffer: int) -> object:
        sizes.append(buffer)
        return real(listener, message, buffer)

    monkeypatch.setattr(readers, "_picows", counting)
    return sizes


async def test_one_serves_all_who_send_whole_frames(made: list[int]) -> None:
    lender = Readers(MESSAGE)
    wires = [Wire() for _ in range(50)]
    for number, wire in enumerate(wires):
        lender.read(wire, frame(1, b"%d" % number) + frame(9, b"") + frame(2, b"x" * 500))
    assert [wire.heard for wire in wires] == [[(1, b"%d" % n), (9, b""), (2, b"x" * 500)] for n in range(50)]
    assert {wire.reader for wire in wires} == {None}
    assert len(made) == 1


async def test_frames_of_many_cut_anywhere_come_to_whom_they_are_for() -> None:
    chance = random.Random(7)
    lender, wires, wanted, left = Readers(MESSAGE), list[Wire](), list[list[tuple[int, bytes]]](), list[bytes]()
    for _ in range(40):
        sizes = [chance.choice((0, 1, 125, 126, 900, 1100, 2000, 65_535, 65_536)) for _ in range(6)]
        said = [(chance.choice((1, 2)), chance.randbytes(size)) for size in sizes]
        wires.append(Wire())
        wanted.append(said)
        left.append(b"".join(frame(opcode, data, chance.randbytes(4)) for opcode, data in said))
    while any(left):
        number = chance.choice([n for n, rest in enumerate(left) if rest])
        size = chance.choice((1, 2, 3, 5, 100, SHORT, SHORT + 1, 5000, 200_000))
        lender.read(wires[number], left[number][:size])
        left[number] = left[number][size:]
    assert [wire.heard for wire in wires] == wanted
    assert {wire.reader for wire in wires} == {None}


async def test_who_has_sent_half_a_frame_keeps_it_until_the_other_half(made: list[int]) -> None:
    lender, slow, other = Readers(MESSAGE), Wire(), Wire()
    whole = frame(1, b"slow")
    for cut in range(1, len(whole)):
        lender.read(slow, whole[:cut])
        assert slow.reader is not None
        lender.read(other, frame(1, b"other"))
        assert other.reader is None
        lender.read(slow, whole[cut:])
        assert slow.reader is None
    assert slow.heard == [(1, b"slow")] * (len(whole) - 1)
    assert len(made) == 2


async def test_those_kept_are_few_and_small(made: list[int]) -> None:
    lender = Readers(MESSAGE)
    wires = [Wire() for _ in range(3 * IDLE_MAX)]
    for wire in wires:
        lender.read(wire, b"\x81")
    for wire in wires:
        lender.read(wire, frame(1, b"")[1:])
    assert len(lender._idle) == IDLE_MAX
    made.clear()
    for _ in range(3):
        lender.read(wires[0], frame(2, b"x" * 100_000))  # whole
        lender.read(wires[0], frame(2, b"x" * 100_000)[:900])  # grows as it comes
        lender.read(wires[0], frame(2, b"x" * 100_000)[900:])
    assert len(lender._idle) <= IDLE_MAX
    assert all(one.small for one in lender._idle)
    assert len(wires[0].heard) == 7


async def test_a_close_is_one_connections_only(made: list[int]) -> None:
    lender, wires = Readers(MESSAGE), [Wire() for _ in range(5)]
    for wire in wires:
        lender.read(wire, frame(8, b"\x03\xe8"))
    assert [(wire.heard, wire.said) for wire in wires] == [([(8, b"\x03\xe8")], [])] * 5
    assert len(made) == 1


@pytest.mark.parametrize(("bad", "code"), [
    (frame(3, b""), 1002), (frame(1, b"a")[:1] + b"\x01a", 1002), (frame(9, b"x" * 126), 1002),
    (frame(2, b"")[:1] + b"\xff" + (MESSAGE + 1).to_bytes(8), 1009), (frame(8, b"x"), 1002),
])  # fmt: skip
async def test_a_mistake_is_told_after_what_came_before_it_and_hurts_nobody_else(bad: bytes, code: int) -> None:
    lender, wrong, other = Readers(MESSAGE), Wire(), Wire()
    lender.read(wrong, frame(1, b"before") + bad)
    assert wrong.heard[0] == (1, b"before")
    assert [int.from_bytes(said[2:4]) for said in wrong.said] == [code]
    lender.read(other, frame(1, b"other"))
    assert (other.heard, other.said) == ([(1, b"other")], [])
    await asyncio.sleep(0.05)  # what picows does about it a moment later is done to nobody
    lender.read(other, frame(1, b"again"))
    assert (other.heard[1:], other.said) == ([(1, b"again")], [])


async def test_what_fails_at_a_frame_ends_that_connection(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(Wire):
        def on_frame(self, frame: WSFrame) -> None:
            raise RuntimeError("on purpose")

    lender, failing, other = Readers(MESSAGE), Failing(), Wire()
    lender.read(failing, frame(1, b"a"))
    assert [int.from_bytes(said[2:4]) for said in failing.said] == [1011]
    assert "on purpose" in caplog.text
    lender.read(other, frame(1, b"other"))
    assert other.heard == [(1, b"other")]


@contextlib.contextmanager
def none_more() -> Iterator[None]:
    """As many readers afterwards as before, without a collection of garbage."""

    def count() -> int:
        return sum(isinstance(one, Reader) for one in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = count()
        yield
        assert count() == before
    finally:
        gc.enable()


async def test_one_that_is_not_kept_is_freed_at_once() -> None:
    lender, wire = Readers(MESSAGE), Wire()
    with none_more():
        for _ in range(20):
            lender.read(wire, frame(2, b"x" * 100_000))
            whole = frame(2, b"y" * 100_000)
            lender.read(wire, whole[:50_000])
            lender.read(wire, whole[50_000:])
    assert len(wire.heard) == 40


async def test_that_of_a_connection_which_was_cut_in_half_a_frame_or_by_a_mistake_is_freed_at_once() -> None:
    async with house("hot", Limits()) as doors:
        with none_more():
            for last in (frame(2, b"x" * 50_000)[:-1], b"\xff\xff\xff\xff"):
                raw = await Raw.open(doors.port)
                raw.writer.write(last)
                await raw.writer.drain()
                await asyncio.sleep(0.1)
                raw.writer.transport.abort()
                while doors.server.server_state.connections:
                    await asyncio.sleep(0.01)
                await some_turns()
                del raw
