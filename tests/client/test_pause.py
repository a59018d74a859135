from __future__ import annotations

from pilothouse.client.pause import Pause


def test_pauses_grow_to_an_end_and_begin_anew() -> None:
    pause = Pause(1.0, 0.2)
    for span in (0.2, 0.4, 0.8, 1.0, 1.0):
        assert span / 4 <= pause.next_s() <= span
    pause.reset()
    assert pause.next_s() <= 0.2


def test_no_two_come_back_at_one_time() -> None:
    assert len({Pause(5.0).next_s() for _ in range(100)}) > 90
