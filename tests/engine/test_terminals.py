"""Terminals on scripted shells: every viewer's bytes by offset, whoever is slow, leaves, comes back or is killed."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.core import frames
from pilothouse.core.audience import Role, Viewer, ViewerId
from pilothouse.core.errors import BadRequest, NotFound, TooMany
from pilothouse.core.frames import SEND_MAX
from pilothouse.core.shell import REPLAY, SCROLLBACK_MIN, WINDOW, Exit, ShellId, Size
from pilothouse.engine import viewing as viewing_module
from pilothouse.engine.shells import ShellSpec
from pilothouse.engine.terminal import LOOK_S, Terminal
from pilothouse.engine.terminals import TerminalLimits, Terminals
from pilothouse.engine.viewing import GONE, INPUT_AHEAD, Viewing
from tests.clock import HandClock
from tests.engine.screens import SESSION, Screen, ScriptedShell, ScriptedShells, settled

AHEAD = 64 * 1024
RESIZE = b'\x04{"width":%d,"height":%d}'


class House:
    """Terminals and what they stand on. `restart` is a killed server and the next one."""

    def __init__(self, **limits: float) -> None:
        self.clock = HandClock()
        self.shells = ScriptedShells()
        self.shells.now = self.clock.now()
        self.limits = TerminalLimits(ahead=AHEAD, **limits)
        self.terminals = Terminals(self.shells, self.clock, self.limits)
        self.count = 0

    def restart(self) -> None:
        """Nothing of the old one runs on, and nobody was told."""
        self.terminals._turns._queue.clear()
        for terminal in self.terminals._sessions.get(SESSION, {}).values():
            for viewing in terminal._viewings.values():
                if viewing._waiting is not None:
                    viewing._waiting.cancel()
        self.terminals = Terminals(self.shells, self.clock, self.limits)

    async def open(self, id: str = "s", scrollback: int = SCROLLBACK_MIN) -> tuple[Terminal, ScriptedShell, bool]:
        terminal, new = await self.terminals.open(ShellSpec(SESSION, ShellId(id), ("sh",), scrollback=scrollback))
        shell = terminal.shell
        assert isinstance(shell, ScriptedShell)
        return terminal, shell, new

    def watch(
        self,
        terminal: Terminal,
        role: Role = "type",
        *,
        screen: Screen | None = None,
        plain: bool = False,
        new: bool = True,
        after: int | None = None,
        typist: int | None = None,
        may_type: bool = True,
    ) -> tuple[Viewing, Screen]:
        self.count += 1
        screen = screen or Screen(high=AHEAD)
        viewer = Viewer(ViewerId(f"v{self.count}"), "ann", role, may_type, plain)
        viewing = self.terminals.attach(terminal, viewer, screen, new=new, after=after, typist=typist)
        return viewing, screen


@pytest.fixture
async def house() -> AsyncIterator[House]:
    house = House()
    yield house
    await house.terminals.close()


async def test_what_a_shell_says_reaches_every_viewer(house: House) -> None:
    terminal, shell, _ = await house.open()
    _, one = house.watch(terminal)
    _, two = house.watch(terminal, "watch")
    shell.says(b"hello \xff\x00")
    shell.says(b"there")
    assert one.output == two.output == shell.all
    assert one.statuses[0]["metadata"] == {"shellId": "s", "reconnected": False, "offset": 0, "live": 0, "typed": 0}


async def test_what_is_typed_reaches_the_shell_once_and_from_who_may_only(house: House) -> None:
    terminal, shell, _ = await house.open()
    typing, _ = house.watch(terminal, typist=9)
    watching, watcher = house.watch(terminal, "watch")
    stranger, strange = house.watch(terminal, "type", may_type=False)
    await typing.receive(b"\x00ls\r")
    await watching.receive(b"\x00rm\r")
    await stranger.receive(b"\x00rm\r")
    await stranger.receive(b'\x10{"type":"take"}')
    assert shell.input == b"ls\r"
    assert [c["what"] for c in watcher.controls("refused")] == ["typing"]
    assert len(strange.controls("refused")) == 2
    assert watcher.closed is strange.closed is None


async def test_who_comes_back_gets_what_it_misses_and_no_more(house: House) -> None:
    terminal, shell, _ = await house.open()
    first, one = house.watch(terminal)
    shell.says(b"0123456789")
    first.leave()
    shell.says(b"abc")
    _, two = house.watch(terminal, after=7, new=False)
    await settled()
    assert two.output == b"789abc"
    assert two.statuses[0]["metadata"] == {"shellId": "s", "reconnected": True, "offset": 7, "live": 13, "typed": 0}
    assert one.output == b"0123456789"
    with pytest.raises(BadRequest, match="after"):
        house.watch(terminal, after=14)


async def test_who_first_types_in_a_new_shell_is_asked_what_nobody_was(house: House) -> None:
    """A program may have asked its terminal something before anybody was there, and wait for the answer."""
    terminal, shell, _ = await house.open()
    shell.says(b"who is it?")
    _, watcher = house.watch(terminal, "watch")
    first, one = house.watch(terminal)
    first.leave()
    _, two = house.watch(terminal, new=False)
    assert [screen.statuses[0]["metadata"]["live"] for screen in (watcher, one, two)] == [10, 0, 10]
    terminal, shell, _ = await house.open("unattended")
    shell.says(b"who is it?")
    terminal.wait_no_more()  # by now it has given up
    _, late = house.watch(terminal)
    assert late.statuses[0]["metadata"]["live"] == 10


async def test_a_plain_client_is_replayed_the_newest_and_told_what_it_missed(house: House) -> None:
    terminal, shell, _ = await house.open(scrollback=4 * REPLAY)
    first, one = house.watch(terminal, plain=True)
    shell.says(b"x" * 1000)
    await settled()
    first.leave()
    shell.says(b"line\n" * 100_000)
    await settled()
    _, two = house.watch(terminal, plain=True, new=False)
    await settled()
    metadata = two.statuses[0]["metadata"]
    assert metadata["reconnected"] is True
    assert two.output == shell.all[-len(two.output) :]
    assert REPLAY - 512 <= len(two.output) <= REPLAY
    assert len(one.output) + metadata["bytesDropped"] + len(two.output) == len(shell.all)
    assert set(metadata) == {"shellId", "reconnected", "bytesDropped"}


async def test_what_was_on_its_way_to_a_plain_client_that_was_cut_off_is_told_as_missed(house: House) -> None:
    terminal, shell, _ = await house.open(scrollback=4 * REPLAY)
    first, one = house.watch(terminal, plain=True)
    shell.says(b"y\n" * 5000)
    await settled()
    one.travelling = 7000
    shell.says(b"z\n" * 300_000)
    await settled()
    had = len(one.output) - 7000
    async with asyncio.timeout(10):
        while shell.seen != had:  # it is looked at again: nobody says so
            await asyncio.sleep(0.001)
    one.travelling = GONE
    first.leave()
    shell.says(b"x\n" * 300_000)
    await settled()
    _, two = house.watch(terminal, plain=True, new=False)
    await settled()
    dropped = two.statuses[0]["metadata"]["bytesDropped"]
    assert had + dropped + len(two.output) == len(shell.all)


async def test_what_a_plain_client_missed_is_exact_over_a_restart_of_the_server(house: House) -> None:
    terminal, shell, _ = await house.open()
    _, one = house.watch(terminal, plain=True)
    shell.says(b"y\n" * 5000)
    await settled()
    house.restart()
    terminal, shell, new = await house.open()
    terminal.wait_no_more()
    shell.says(b"z\n" * 400_000)
    await settled()
    _, two = house.watch(terminal, plain=True, new=new)
    await settled()
    dropped = two.statuses[0]["metadata"]["bytesDropped"]
    assert len(one.output) + dropped + len(two.output) == len(shell.all)
    assert two.output == shell.all[-len(two.output) :]


async def test_one_plain_client_at_a_time_and_ours_beside_it(house: House) -> None:
    terminal, shell, _ = await house.open()
    _, ours = house.watch(terminal)
    old, one = house.watch(terminal, plain=True)
    _, two = house.watch(terminal, plain=True, new=False)
    assert one.code() == 4000
    old.leave()
    shell.says(b"still here")
    assert ours.output == two.output == b"still here"
    assert [len(p["viewers"]) for p in ours.controls("presence")] == [1, 2, 2]
    assert two.controls("presence") == two.controls("size") == []


async def test_two_who_ask_for_one_shell_at_the_same_instant_get_the_same(house: House) -> None:
    (one, _, first), (two, _, second) = await asyncio.gather(house.open(), house.open())
    assert one is two
    assert sorted([first, second]) == [False, True]


async def test_the_eleventh_shell(house: House) -> None:
    for n in range(10):
        await house.open(f"s{n}")
    with pytest.raises(TooMany, match="at most 10"):
        await house.open("s10")
    house.shells.shells[ShellId("s0")].exits(Exit(0))
    await settled()
    await house.open("s10")


# --- who is slow ------------------------------------------------------------------------------------------------------


async def test_who_types_and_does_not_read_holds_the_shell_back(house: House) -> None:
    terminal, shell, _ = await house.open()
    _, slow = house.watch(terminal, screen=Screen(slow=True, high=AHEAD))
    _, quick = house.watch(terminal, "watch")
    shell.says(b"0123456789abcde\n" * 200_000)
    await settled()
    assert shell.head <= len(slow.output) + WINDOW
    assert slow.most <= AHEAD + SEND_MAX
    assert quick.output == shell.all[: shell.head]
    while len(slow.output) < len(shell.all):
        slow.reads()
        await settled()
    assert slow.output == shell.all
    assert slow.statuses[1:] == []


async def test_who_watches_and_does_not_read_hurts_nobody_and_is_told(house: House) -> None:
    terminal, shell, _ = await house.open()
    _, quick = house.watch(terminal)
    _, slow = house.watch(terminal, "watch", screen=Screen(slow=True, high=AHEAD))
    shell.says(b"0123456789abcde\n" * 200_000)
    await settled()
    assert quick.output == shell.all
    assert slow.most <= AHEAD + SEND_MAX
    before = len(slow.output)
    slow.slow = False
    slow.reads()
    await settled()
    (resync,) = slow.statuses[1:]
    metadata = resync["metadata"]
    assert metadata["reconnected"] is True
    assert metadata["offset"] == before + metadata["bytesDropped"]
    assert slow.output == shell.all[:before] + shell.all[metadata["offset"] :]


async def test_pause_holds_and_resume_goes_on(house: House) -> None:
    terminal, shell, _ = await house.open()
    viewing, screen = house.watch(terminal)
    await viewing.receive(b'\x10{"type":"pause"}')
    shell.says(b"x" * 1_000_000)
    await settled()
    assert (screen.output, shell.head) == (b"", WINDOW)
    await viewing.receive(b'\x10{"type":"resume"}')
    await settled()
    assert screen.output == shell.all


async def test_nobody_types_and_the_shell_writes_on(house: House) -> None:
    terminal, shell, _ = await house.open()
    viewing, _ = house.watch(terminal)
    held_back = [shell.typed_in]
    viewing.leave()
    assert [*held_back, shell.typed_in] == [True, False]
    shell.says(b"x" * 3_000_000)
    await settled()
    assert shell.head == 3_000_000


async def test_a_shell_that_does_not_read_its_input_makes_the_viewer_wait(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal, shell, _ = await house.open()
    viewing, screen = house.watch(terminal)
    shell.reads_input = False
    message = b"\x00" + b"i" * 65_536
    for _ in range(INPUT_AHEAD // 65_536):
        await viewing.receive(message)
    waiting = asyncio.create_task(viewing.receive(message))
    await settled()
    assert not waiting.done()
    shell.takes()
    await waiting
    assert len(shell.input) == 5 * 65_536
    monkeypatch.setattr(viewing_module, "STUCK_S", 0.0)
    shell.reads_input = False
    for _ in range(INPUT_AHEAD // 65_536 + 1):
        await viewing.receive(message)
    assert screen.closed == (1008, "the shell does not read its input")


async def test_no_more_is_read_than_can_be_kept_of_what_is_on_its_way(house: House) -> None:
    """A killed server takes with it what it wrote and the viewer's machine does not have."""
    terminal, shell, _ = await house.open()
    _, screen = house.watch(terminal)
    screen.travelling = shell.capacity
    shell.says(b"x" * 2_000_000)
    async with asyncio.timeout(10):
        while len(screen.output) < shell.capacity:  # what was read is sent in turns
            await asyncio.sleep(0.001)
    await asyncio.sleep(3 * LOOK_S)
    assert len(screen.output) == shell.head == shell.capacity
    assert shell.oldest == 0
    screen.travelling = 0
    async with asyncio.timeout(10):
        while len(screen.output) < 2_000_000:  # what was read is sent in turns
            await asyncio.sleep(0.001)
    assert screen.output == shell.all


async def test_who_is_gone_and_has_not_left_yet_holds_nobody_back(house: House) -> None:
    """It may wait for a shell to read its input, which waits for its output to be read."""
    terminal, shell, _ = await house.open()
    _, gone = house.watch(terminal)
    _, there = house.watch(terminal)
    gone.travelling = GONE
    shell.says(b"x" * 8_000_000)
    await settled()
    async with asyncio.timeout(10):
        while len(there.output) < 8_000_000:
            await asyncio.sleep(0.001)
    assert there.output == shell.all


async def test_nor_than_can_be_kept_of_what_a_viewer_does_not_have_yet(house: House) -> None:
    """A browser that hears of the end may throw away what its machine has taken; who says what it has loses none."""
    terminal, shell, _ = await house.open()
    viewing, screen = house.watch(terminal)

    async def seen(offset: int) -> None:
        await viewing.receive(frames.control(b'{"type":"seen","offset":%d}' % offset))
        await settled()

    await seen(0)
    shell.says(b"x" * 5_000_000)
    await settled()
    had = 0
    while had < 5_000_000:
        async with asyncio.timeout(10):
            while len(screen.output) < shell.head:  # what was read is sent in turns
                await asyncio.sleep(0.001)
        assert had < shell.head <= had + shell.capacity
        assert shell.oldest <= had
        had = min(shell.head, had + 200_000)
        await seen(had)
    assert screen.output == shell.all
    for wrong in (b"-1", b'"1"', b"1.5", b"%d" % (1 << 54)):
        await viewing.receive(frames.control(b'{"type":"seen","offset":%s}' % wrong))
        assert json.loads(screen.sent[-1][1:])["type"] == "refused", wrong
        await seen(had)


async def test_each_size_is_told_at_its_place_in_the_output(house: House) -> None:
    terminal, shell, _ = await house.open()
    viewing, first = house.watch(terminal)
    shell.says(b"small")
    await settled()
    for size in ((100, 50), (101, 51)):  # the first of them nothing was written in
        await viewing.receive(RESIZE % size)
    shell.says(b"large")
    await settled()
    _, late = house.watch(terminal, "watch")
    _, middle = house.watch(terminal, "watch", after=7)
    await settled()
    assert first.story == [(80, 24), b"small", (100, 50), (101, 51), b"large"]
    assert late.story == [(80, 24), b"small", (101, 51), b"large"]
    assert middle.story == [(101, 51), b"rge"]


# --- the frames -------------------------------------------------------------------------------------------------------


async def test_faults_are_answered_and_five_in_a_row_end_the_connection(house: House) -> None:
    terminal, shell, _ = await house.open()
    viewing, screen = house.watch(terminal, plain=True)
    await viewing.receive(b"hello", text=True)
    await viewing.receive(b"")
    await viewing.receive(RESIZE % (0, 24))
    await viewing.receive(b"\x10{}")
    assert len(screen.said) == 3
    assert "width" in screen.said[1]
    assert screen.code() is None
    await viewing.receive(b"\x02x")
    assert screen.code() == 1003
    assert terminal.viewers == ()
    await viewing.receive(b"\x00typed after the end")
    assert (shell.input, shell.sizes) == (b"", [])


async def test_an_oversized_message_ends_the_connection_and_not_the_shell(house: House) -> None:
    terminal, shell, _ = await house.open()
    viewing, screen = house.watch(terminal)
    await viewing.receive(b"\x00" + bytes(65_537))
    assert screen.code() == 1009
    assert (shell.input, shell.signals) == (b"", [])


async def test_a_heartbeat_comes_back_and_tells_what_was_typed(house: House) -> None:
    terminal, _, _ = await house.open()
    viewing, screen = house.watch(terminal)
    await viewing.receive(b"\x00abc")
    await viewing.receive(b"\x05now")
    assert screen.sent[-1] == b"\x05now"
    assert screen.controls("typed") == [{"type": "typed", "offset": 3}]


async def test_typing_goes_on_where_it_was_whoever_was_restarted(house: House) -> None:
    terminal, shell, _ = await house.open()
    viewing, _ = house.watch(terminal, typist=77)
    await viewing.receive(b"\x00abc")
    house.restart()
    terminal, shell, new = await house.open()
    _, screen = house.watch(terminal, typist=77, after=0, new=new)
    assert screen.statuses[0]["metadata"]["typed"] == 3
    assert not new and shell.input == b"abc"


async def test_the_smallest_screen_of_those_who_type(house: House) -> None:
    terminal, shell, _ = await house.open()
    one, first = house.watch(terminal)
    two, _ = house.watch(terminal)
    await one.receive(RESIZE % (100, 50))
    await two.receive(RESIZE % (120, 30))
    assert shell.sizes == [Size(100, 50), Size(100, 30)]
    await two.receive(b'\x10{"type":"role","role":"watch"}')
    assert shell.size == Size(100, 50)
    assert first.controls("size")[-1] == {"type": "size", "width": 100, "height": 50}
    await two.receive(b'\x10{"type":"take"}')
    assert [v.role for v in terminal.viewers] == ["watch", "type"]
    await one.receive(b"\x00no")
    assert shell.input == b""


async def test_the_end_is_told_after_the_last_byte(house: House) -> None:
    terminal, shell, _ = await house.open()
    _, slow = house.watch(terminal, screen=Screen(slow=True, high=AHEAD))
    _, quick = house.watch(terminal, plain=True)
    shell.says(b"x" * 300_000)
    shell.exits(Exit(3))
    while slow.closed is None:
        await settled()
        slow.reads()
    for screen in (slow, quick):
        assert screen.output == shell.all
        assert screen.closed == (1000, "")
        assert screen.statuses[-1]["message"] == "command terminated with exit code 3"
        assert screen.sent[-1][0] == 3
    await settled()
    with pytest.raises(NotFound):
        await house.terminals.find(SESSION, ShellId("s"))
    assert house.shells.shells == {}


async def test_close_ends_the_shell_and_its_name_is_free(house: House) -> None:
    terminal, shell, _ = await house.open()
    viewing, screen = house.watch(terminal, plain=True)
    _, other = house.watch(terminal, "watch")
    await viewing.receive(b"\xff")
    assert screen.sent[-1] == b"\xff" and screen.closed == (1000, "closed")
    assert shell.signals == [signal.SIGHUP]
    shell.exits(Exit(0, 1))
    await settled()
    assert other.closed == (1000, "")
    assert (await house.open())[2] is True


async def test_who_watches_cannot_close(house: House) -> None:
    terminal, shell, _ = await house.open()
    viewing, screen = house.watch(terminal, "watch")
    await viewing.receive(b"\xff")
    assert (shell.signals, screen.closed) == ([], None)


async def test_a_plain_client_closes_whoever_types(house: House) -> None:
    """It knows nothing of others, and does not wait for a refusal."""
    terminal, shell, _ = await house.open()
    plain, client = house.watch(terminal, plain=True)
    ours, _ = house.watch(terminal)
    await ours.receive(b'\x10{"type":"take"}')
    await plain.receive(b"\x00no")
    assert shell.input == b""
    await plain.receive(b"\xff")
    assert (shell.signals, client.sent[-1], client.closed) == ([signal.SIGHUP], b"\xff", (1000, "closed"))


async def test_a_new_shell_waits_for_its_first_viewer_and_one_that_was_typed_in_for_its_typist(house: House) -> None:
    terminal, shell, _ = await house.open()
    shell.says(b"x" * 3_000_000)
    await settled()
    assert shell.head == WINDOW
    _, one = house.watch(terminal)
    await settled()
    assert one.output == shell.all
    house.restart()
    terminal, shell, _ = await house.open()
    shell.says(b"y" * 3_000_000)
    await settled()
    at = shell.head
    assert at <= 3_000_000 + WINDOW  # what the former server had granted
    _, watcher = house.watch(terminal, "watch", after=at)
    await settled()
    assert (watcher.output, shell.head) == (b"", at)
    _, typist = house.watch(terminal, after=3_000_000, new=False)
    await settled()
    assert typist.output == b"y" * 3_000_000
    terminal.wait_no_more()  # nothing more to happen


async def test_a_server_that_goes_tells_nobody_that_who_typed_has_left(house: House) -> None:
    """The rest of a flood would be read for nobody, while it looks for the next server."""
    terminal, shell, _ = await house.open()
    one, screen = house.watch(terminal)
    other, _ = house.watch(terminal)
    watching, _ = house.watch(terminal, "watch")
    await one.receive(b'\x10{"type":"seen","offset":0}')
    await other.receive(b'\x10{"type":"seen","offset":0}')
    shell.says(b"x" * 10_000_000)
    await settled()
    at = shell.head
    terminal.send_away(one)
    await other.receive(b'\x10{"type":"seen","offset":%d}' % at)  # who is still there is served
    await settled()
    assert at < shell.head < 10_000_000
    at = shell.head
    terminal.send_away(other)
    watching.leave()
    await settled()
    assert (shell.head, shell.typed_in, screen.closed) == (at, True, (1001, "the server restarts"))
    await house.terminals.close()
    assert shell.typed_in
    terminal.wait_no_more()  # it stays after all
    await settled()
    assert (shell.head, shell.typed_in) == (10_000_000, False)


async def test_who_has_only_the_end_sees_the_screen_drawn_anew(house: House) -> None:
    terminal, shell, _ = await house.open()
    terminal.wait_no_more()
    shell.says(b"line\n" * 400_000)
    await settled()
    _, screen = house.watch(terminal)
    async with asyncio.timeout(20):
        while len(shell.sizes) < 2:
            await asyncio.sleep(0.01)
    await settled()
    assert screen.statuses[0]["metadata"]["offset"] > 0
    assert [s.rows for s in shell.sizes] == [23, 24]


# --- time -------------------------------------------------------------------------------------------------------------


async def test_a_shell_that_nobody_uses_ends_and_one_that_is_looked_at_does_not() -> None:
    house = House(idle_s=100.0, life_s=10_000.0)
    looked_at, shell, _ = await house.open("looked-at")
    house.watch(looked_at, "watch")
    _, alone, _ = await house.open("alone")
    await house.terminals.tend()
    house.clock.seconds += 99
    await house.terminals.tend()
    assert alone.signals == []
    house.clock.seconds += 2
    await house.terminals.tend()
    assert (alone.signals, shell.signals) == ([signal.SIGHUP], [])
    house.clock.seconds += 10_000
    await house.terminals.tend()
    assert shell.signals == [signal.SIGHUP]


async def test_an_ended_shell_that_nobody_saw_is_kept_for_a_while() -> None:
    house = House(ended_s=60.0)
    _, shell, _ = await house.open()
    shell.says(b"bye")
    shell.exits(Exit(0))
    await house.terminals.tend()
    house.clock.seconds += 59
    await house.terminals.tend()
    terminal, _, new = await house.open()
    _, screen = house.watch(terminal, new=new)
    await settled()
    assert (screen.output, screen.code()) == (b"bye", 1000)
    _, shell, new = await house.open()
    assert new
    shell.exits(Exit(0))
    await house.terminals.tend()
    house.clock.seconds += 61
    await house.terminals.tend()
    assert house.shells.shells == {}


async def test_when_the_server_goes_viewers_are_told_and_shells_go_on(house: House) -> None:
    terminal, shell, _ = await house.open()
    _, screen = house.watch(terminal)
    await house.terminals.close()
    assert screen.closed == (1001, "the server restarts")
    assert (shell.signals, shell.typed_in) == ([], True)  # who typed comes back


# --- all of it at once ------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("says"), st.integers(1, 60_000)),
        st.tuples(st.just("reads"), st.integers(0, 3)),
        st.tuples(st.just("leaves"), st.integers(0, 3)),
        st.tuples(st.just("comes"), st.integers(0, 3)),
        st.tuples(st.just("restart"), st.just(0)),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_every_viewer_has_every_byte_that_it_was_not_told_it_missed(steps: list[tuple[str, int]], rng: object) -> None:
    asyncio.run(_live(steps))


class Client:
    """A viewer that notes what it has, by offset, over all its connections."""

    def __init__(self, role: Role) -> None:
        self.role: Role = role
        self.pieces: list[tuple[int, bytes]] = []
        self.at: int | None = None
        self.screen: Screen | None = None
        self.viewing: Viewing | None = None

    def collect(self) -> None:
        assert self.screen is not None
        for frame in self.screen.sent:
            if frame[0] == 3:
                metadata = json.loads(frame[1:])["metadata"]
                if self.at is not None:
                    assert metadata["offset"] - metadata.get("bytesDropped", 0) == self.at
                self.at = metadata["offset"]
            elif frame[0] == 1:
                assert self.at is not None
                self.pieces.append((self.at, frame[1:]))
                self.at += len(frame) - 1
        self.screen.sent.clear()


async def _live(steps: list[tuple[str, int]]) -> None:
    house = House()
    clients = [Client("type"), Client("type"), Client("watch"), Client("watch")]
    terminal, shell, _ = await house.open()
    written = 0
    for verb, n in [*steps, ("comes", 0), ("comes", 1), ("comes", 2), ("comes", 3)]:
        client = clients[n % 4]
        if verb == "says":
            shell.says(bytes((written + i) % 251 for i in range(n)) * 20)
            written += n
        elif verb == "reads" and client.screen:
            client.screen.reads()
        elif verb == "leaves" and client.viewing and client.screen:
            client.collect()
            client.viewing.leave()
            client.viewing = client.screen = None
        elif verb == "comes" and client.viewing is None:
            client.screen = Screen(slow=n % 2 == 0, high=AHEAD)
            client.viewing, _ = house.watch(terminal, client.role, screen=client.screen, new=False, after=client.at)
        elif verb == "restart":
            for other in clients:
                if other.screen:
                    other.collect()
                other.viewing = other.screen = None
            house.restart()
            terminal, shell, _ = await house.open()
        await asyncio.sleep(0)
    while any(c.screen and (c.collect() or c.at != len(shell.all)) for c in clients):  # type: ignore[func-returns-value]
        for client in clients:
            if client.screen:
                client.screen.reads()
        await asyncio.sleep(0.0001)
    for client in clients:
        for at, piece in client.pieces:
            assert shell.all[at : at + len(piece)] == piece
    await house.terminals.close()
