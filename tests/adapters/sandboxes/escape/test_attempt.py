"""How an attack is judged: also one that dies, hangs, breaks off, or could never have succeeded."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import time
from collections.abc import Callable

import pytest

from pilothouse.adapters.sandboxes import kernel
from pilothouse.adapters.sandboxes.escape import attempt
from pilothouse.adapters.sandboxes.escape.attempt import BLOCKED, OPEN, SKIPPED, Verdict
from pilothouse.adapters.sandboxes.escape.ground import (
    WHY_MAX,
    Check,
    Ground,
    NotApplicable,
    decode,
    encode,
    refused,
    sure,
)

GROUND = Ground("id", ("left", "right"), {}, 1, 1, 1, {}, "", 1, 1, ("/home",), {"memory": 5.0})


def judged(check: Check, *, bomb: bool = False, ground: Ground = GROUND) -> Verdict:
    """In a process of its own, since `together` waits for every child there is."""
    out, into = os.pipe()
    if os.fork() == 0:
        try:
            kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)
            [verdict] = attempt.together({"x.y": check}, ground, bomb=bomb)
            os.write(into, json.dumps([verdict.id, verdict.state, verdict.why]).encode())
        finally:
            os._exit(0)
    os.close(into)
    said = os.read(out, 65536)
    os.close(out)
    os.wait()
    return Verdict(*json.loads(said))


def _raising(error: Exception) -> Check:
    def check(_: Ground) -> str:
        raise error

    return check


def _control(_: Ground) -> str:
    sure(False, "reads its own file")
    return ""


def _dies(_: Ground) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


@pytest.mark.parametrize(
    ("check", "state", "why"),
    [
        (lambda _: "", BLOCKED, ""),
        (lambda _: "it was read", OPEN, "it was read"),
        (_raising(NotApplicable("no tty")), SKIPPED, "no tty"),
        (_control, OPEN, "control: reads its own file"),
        (_raising(OSError("what")), OPEN, "the check broke: OSError: what"),
        (_raising(MemoryError()), BLOCKED, "no memory"),
        (_dies, OPEN, "the check died"),
        (lambda _: "y" * 5000, OPEN, "y" * WHY_MAX),
    ],
)
def test_a_verdict(check: Check, state: str, why: str) -> None:
    assert judged(check) == Verdict("x.y", state, why)


@pytest.mark.parametrize("check", [_control, _raising(OSError("what"))])
def test_without_namespaces_a_check_whose_means_are_shut_does_not_apply(check: Check) -> None:
    found = judged(check, ground=dataclasses.replace(GROUND, isolation="reduced"))
    assert (found.state, found.why.split(":")[0]) == (SKIPPED, "shut even for its own")
    broken = judged(_raising(ValueError("x")), ground=dataclasses.replace(GROUND, isolation="reduced"))
    assert broken.state == OPEN


def test_a_bomb_that_is_killed_was_held() -> None:
    assert judged(_dies, bomb=True).state == BLOCKED


def test_a_check_that_hangs_has_failed_and_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "SECONDS", 0.3)

    def hang(_: Ground) -> str:
        os.fork()
        time.sleep(60)
        return ""

    assert judged(hang) == Verdict("x.y", OPEN, "the check did not end in time")


@pytest.mark.parametrize("left", [lambda: None, os.setpgrp])
def test_what_an_attack_leaves_behind_is_ended(left: Callable[[], None]) -> None:
    """`judged` would not come back, were anything of it left; what left its group must end by itself."""

    def leave(_: Ground) -> str:
        if os.fork() == 0:
            left()
            time.sleep(60 if left is not os.setpgrp else 0.1)
            os._exit(0)
        return ""

    assert judged(leave).state == BLOCKED


def test_an_error_that_is_no_refusal_is_a_hole() -> None:
    def reached() -> None:
        os.close(-1)

    assert refused("close", reached) == "close: reached the kernel (EBADF)"
    assert refused("done", os.getpid) == "done"
    assert refused("made", os.mkdir, "/proc/x") != "made"


def test_the_ground_travels_without_its_secret_in_one_piece() -> None:
    text = encode(GROUND)
    assert decode(text, "", "", "") == GROUND
    assert GROUND.secret == b"leftright"
    assert "leftright" not in text
