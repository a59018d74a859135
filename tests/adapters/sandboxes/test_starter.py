"""What starts a session's programs, when there is no room for another process: it says so, and goes on."""

from __future__ import annotations

import errno
import os
import socket
from typing import Any

import pytest

from pilothouse.adapters.sandboxes import fdpass
from pilothouse.adapters.sandboxes.inside import Inside


@pytest.mark.parametrize("more", [{"terminal": [24, 80]}, {"fds": []}])
def test_no_room_for_another_process(monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]) -> None:
    def fork() -> int:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(os, "fork", fork)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, theirs:
        starter, before = Inside(theirs), len(os.listdir("/proc/self/fd"))
        for key in (1, 2):
            starter._handle({"start": key, "argv": ["sh"], "env": {}, "cwd": "/", **more})
        said = fdpass.Lines(ours)
        said.feed()
        for key in (1, 2):
            assert said.next() == {"exit": key, "status": "no room for another process"}
        assert said.take_fds() == []
        assert len(os.listdir("/proc/self/fd")) == before
