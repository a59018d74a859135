"""The canaries: reachable from where they stand, they notice who comes, and nothing of them is left."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes.escape import planted as planting
from pilothouse.adapters.sandboxes.escape import processes
from pilothouse.adapters.sandboxes.escape.planted import CannotPlant, planted


@pytest.fixture
def places(base: Path) -> tuple[Path, Path]:
    for name in ("h", "r"):
        (base / name).mkdir(mode=0o700)
    return base / "h", base / "r"


async def test_they_notice_everything_and_leave_nothing(places: tuple[Path, Path]) -> None:
    async with planted(*places, {}) as canaries:
        ground = canaries.ground
        assert await canaries.touched() == {}, "what was tried before is forgotten"
        planting._visit(ground)
        with Path(ground.files["victim"]).open("ab") as file:
            file.write(b"x")
        os.setpriority(os.PRIO_PROCESS, ground.pid, 7)
        Path(f"/proc/{ground.pid}/oom_score_adj").write_text("777")
        noticed: set[str] = set()
        async with asyncio.timeout(20):  # a terminal passes on what was typed when it comes to it
            while not noticed.issuperset(planting._MARKS.values()):
                noticed |= set(await canaries.touched())
        assert noticed == {*planting._MARKS.values(), "fs.symlink_write", "p.prio", "p.oom"}
        files = [Path(p) for p in (*ground.files.values(), *ground.sockets.values())]
        assert all(p.exists() for p in files)
    assert not any(p.exists() for p in files)
    assert not [p for place in places for p in place.iterdir()]
    with pytest.raises(ProcessLookupError):
        os.kill(ground.pid, 0)
    listed = Path("/proc/sysvipc/shm").read_text() + Path("/proc/sysvipc/msg").read_text()
    assert str(ground.shared_key) not in listed


async def test_where_nothing_isolates_the_checks_see_them(places: tuple[Path, Path]) -> None:
    """Those that only look; on the host each of them finds something."""
    async with planted(*places, {}) as canaries:
        for name in ("p.visible", "p.environ"):
            assert processes.CHECKS[name](canaries.ground), name
        assert processes._is_canary(canaries.ground)


async def test_a_canary_that_nobody_can_reach_is_none(
    places: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(planting, "_PATIENCE_S", 1.0)
    monkeypatch.setattr(planting, "_visit", lambda ground: None)
    with pytest.raises((CannotPlant, TimeoutError)):
        async with planted(*places, {}):
            pass
    assert not [p for place in places for p in place.iterdir()]
