from __future__ import annotations

from pilothouse.client.pause import HELD_S, Patience, Pause


def test_pauses_grow_to_an_end_and_begin_anew() -> None:
    pause = Pause(1.0, 0.2)
    for span in (0.2, 0.4, 0.8, 1.0, 1.0):
        assert span / 4 <= pause.next_s() <= span
    pause.reset()
    assert pause.next_s() <= 0.2


def test_no_two_come_back_at_one_time() -> None:
    assert len({Pause(5.0).next_s() for _ in range(100)}) > 90


def test_a_loss_is_counted_from_when_it_happens() -> None:
    """Not from the beginning of the request, nor anew with each try that fails."""
    patience = Patience(30)
    assert patience.lost(7200, 0) is not None
    assert patience.lost(7228, None) is not None
    assert patience.lost(7230, None) is None


def test_a_connection_that_held_is_lost_anew_and_one_that_breaks_at_once_is_not() -> None:
    patience = Patience(30)
    assert patience.lost(100, 0) is not None
    assert patience.lost(125 + HELD_S, 125) is not None
    assert patience.lost(150, None) is not None, "25 s after the second loss"
    for answered in (151, 153, 155):
        assert patience.lost(answered + HELD_S / 2, answered) is not None
    assert patience.lost(165, 164) is None


def test_what_must_not_be_done_twice_is_not() -> None:
    assert Patience(0).lost(10, 0) is None
