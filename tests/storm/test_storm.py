"""The short forms, on the real program; `make storm` is the long one. The rest is about the harness: that it would say
so."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storm import conduct
from tests.storm.conduct import Options
from tests.storm.figures import Figures
from tests.storm.publishers import check
from tests.storm.swarm import Subscriber, Swarm
from tests.storm.wire import Connection


@pytest.fixture
def place() -> Iterator[Path]:
    """Short, for the unix sockets in it; and whoever a server of root's becomes reads its settings there."""
    made = Path(tempfile.mkdtemp(prefix="ph-", dir="/tmp"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


async def test_a_storm_of_cuts_and_a_killed_server_lose_and_double_nothing(place: Path) -> None:
    """Publishers with keys, ten at a time: what was acknowledged is in the log, once, in their order, and everybody has
    exactly the log."""
    figures = await conduct.storm(
        Options(60, 10, 1500, ends=("kill -9", "kill -9"), cut_s=2.0, seed=3, fixed_s=0.5), place
    )
    assert figures.breaches == []
    assert figures.events == 1500
    assert figures.delivered == 60 * 1500
    assert figures.cuts.total() > 0
    assert figures.repeats > 0, "nobody published while the server was away"


async def test_two_hundred_come_back_to_a_server_that_is_started_again(place: Path) -> None:
    figures = await conduct.restart(
        Options(subscribers=200, publishers=1, ends=("SIGTERM", "kill -9"), cut_s=0.0), place
    )
    assert figures.breaches == []
    stopped, killed = figures.returns
    assert stopped.closes == {"1001": 200}, "each was sent away, and none let in to be thrown out"
    assert killed.closes == {"cut": 200}
    for one in figures.returns:
        assert set(one.errors) <= {"ConnectionRefusedError", "ConnectionResetError"}, "nobody who came was turned away"


# --- would it say so? ---


def heard(*numbers: int) -> list[str]:
    figures = Figures(0, 1, 1)
    swarm = Swarm("http://127.0.0.1:1", "k", "c", figures)
    who: Subscriber = object.__new__(Subscriber)
    who.at, who.frames, who.connection = 0, swarm.frames, None
    who._swarm, who._figures, who._name = swarm, figures, "one"
    swarm.frames += [frame(1), frame(2)]
    made: Connection = object.__new__(Connection)
    made._who = who
    rest = made._take(b"".join(b"\x81" + bytes([len(frame(n))]) + frame(n) for n in numbers) + b"\x81\x20", 0)
    assert rest == b"\x81\x20"
    return [kind for kind, _ in figures.breaches]


def frame(number: int) -> bytes:
    """With a minus: other bytes under that number."""
    return json.dumps({"type": "data", "seq": abs(number), "event": "x" if number < 0 else "y"}).encode()


@pytest.mark.parametrize(
    ("numbers", "found"),
    [
        ((1, 2, 3), []),
        ((1, 3), ["lost"]),
        ((1, 1, 2), ["doubled"]),
        ((2, 1), ["lost", "doubled"]),
        ((1, -2, 3), ["differs"]),
    ],
)
def test_what_a_subscriber_hears_is_noticed(numbers: tuple[int, ...], found: list[str]) -> None:
    assert heard(*numbers) == found


@pytest.mark.parametrize(
    ("events", "good"),
    [
        (((0, 0), (1, 0), (0, 1)), True),
        (((0, 0), (1, 0)), False),
        (((0, 0), (1, 0), (0, 1), (0, 1)), False),
        (((0, 1), (1, 0), (0, 0)), False),
    ],
)
def test_what_the_log_has_is_noticed(events: tuple[tuple[int, int], ...], good: bool) -> None:
    figures = Figures(0, 1, 2)
    log: list[dict[str, object]] = [
        {"seq": seq, "event": json.dumps([who, number, ""])} for seq, (who, number) in enumerate(events, 1)
    ]
    check(figures, log, {0: 2, 1: 1})
    assert figures.kept() == good
    random.Random(1).shuffle(log)
    check(figures, log, {0: 2, 1: 1})
    assert figures.kept() is False
