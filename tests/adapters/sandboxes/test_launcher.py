"""The child that starts keepers: what it takes, what it answers, when it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes.launcher import Launcher, trusted
from pilothouse.adapters.sandboxes.layout import Layout, make
from pilothouse.core.errors import Unavailable
from tests.adapters.sandboxes.conftest import until

RECORD = ["sh", "-c", 'printf "%s|" "$0" "$@" "$GIVEN" "$UNGIVEN" >> "$RECORD"; exit $STATUS']


@pytest.fixture
def layout(base: Path) -> Layout:
    return make(base / "h", base / "r")


@pytest.fixture
def launcher() -> Iterator[Launcher]:
    made = Launcher.fork()
    yield made
    made.close()
    os.waitpid(made.pid, 0)  # it ends


def _env(base: Path, status: int = 0) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "GIVEN": "two\nlines", "RECORD": str(base / "said"), "STATUS": str(status)}


def test_it_starts_what_it_was_ordered_as_often_as_it_is_asked(
    launcher: Launcher, layout: Layout, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNGIVEN", "x")
    start = launcher.order(layout, RECORD, _env(base))
    start(layout)
    once = (base / "said").read_text()
    assert once.split("|") == [
        *("--home", str(layout.home), "--runtime", str(layout.runtime), "--detach", "two\nlines", "", "")
    ]
    start(layout)
    assert (base / "said").read_text() == once * 2


def test_why_it_does_not_start(launcher: Launcher, layout: Layout, base: Path) -> None:
    start = launcher.order(layout, ["sh", "-c", "echo first >&2; echo no room >&2; exit 3"], _env(base))
    for _ in range(2):
        with pytest.raises(Unavailable, match="the keeper did not start: no room"):
            start(layout)


def test_a_program_that_is_not_there(launcher: Launcher, layout: Layout) -> None:
    start = launcher.order(layout, ["/nowhere/keeper"], {})
    with pytest.raises(Unavailable, match="No such file"):
        start(layout)


def test_an_order_that_nobody_can_read_is_answered_too(launcher: Launcher, layout: Layout) -> None:
    launcher._say(b"nonsense")
    with pytest.raises(Unavailable, match="Expecting value"):
        launcher._start(layout)


def test_a_start_that_dies_without_a_word(layout: Layout, base: Path, launcher: Launcher) -> None:
    start = launcher.order(layout, ["sh", "-c", "kill -9 $PPID"], _env(base))
    with pytest.raises(Unavailable, match="ended without a word"):
        start(layout)


def test_what_it_was_ordered_first_stands(launcher: Launcher, layout: Layout, base: Path) -> None:
    """A server that has been taken over later can name nothing else, not even ask any more."""
    start = launcher.order(layout, RECORD, _env(base))
    launcher.order(layout, ["touch", str(base / "other")], _env(base))
    with pytest.raises(Unavailable, match="restart the server"):
        start(layout)
    assert not (base / "said").exists() and not (base / "other").exists()


HOSTILE = """
open({said!r}, "a").write(__name__ + " ")
raise ImportError("hostile")
"""
BEGINS = """
import sys
sys.path[0] = {first!r}
from pilothouse.adapters.sandboxes.launcher import Launcher
late = {late!r} & set(sys.modules)
launcher = Launcher.fork()
sys.path.remove({first!r})
from pathlib import Path
from pilothouse.adapters.sandboxes.layout import Layout
start = launcher.order(Layout(Path({home!r}), Path({runtime!r})), ["true"], {{}})
start(None)
print(*late)
"""


@pytest.mark.parametrize("first", ["", ".", "there"])
def test_nothing_is_imported_from_where_the_server_was_started(layout: Layout, base: Path, first: str) -> None:
    """Neither as `-c` and `-m` have it in the path, nor by a relative entry."""
    there = base / "there"
    there.mkdir()
    late = {"signal", "json", "pathlib", "subprocess", "asyncio", "fcntl"}
    for name in late:
        (there / f"{name}.py").write_text(HOSTILE.format(said=str(base / "said")))
    program = BEGINS.format(
        first=str(there) if first == "there" else first, late=late, home=str(layout.home), runtime=str(layout.runtime)
    )
    env = {"PATH": "/usr/bin:/bin", "PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    done = subprocess.run([sys.executable, "-c", program], cwd=there, env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "", ""), "or what is hostile is not imported late"
    assert not (base / "said").exists()


def test_what_it_imports_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, own = tmp_path / "here", os.path.dirname(os.__file__)
    (here / "lib").mkdir(parents=True)
    (tmp_path / "link").symlink_to(here)
    monkeypatch.chdir(here)
    path = ["", ".", str(here), str(tmp_path / "link"), "lib", "../here", "/nowhere", own, str(tmp_path)]
    assert trusted(path) == [str(here / "lib"), "/nowhere", own, str(tmp_path)]
    monkeypatch.chdir(own)
    assert trusted(["", own]) == [own]  # or it could import nothing


async def test_it_ends_with_its_server(layout: Layout, base: Path) -> None:
    """Whoever else it has started goes on."""
    server = os.fork()
    if server == 0:
        try:
            launcher = Launcher.fork()
            (base / "child").write_text(str(launcher.pid))
            launcher.order(layout, RECORD, _env(base))(layout)
        finally:
            os.kill(os.getpid(), 9)
    os.waitpid(server, 0)
    assert (base / "said").exists()
    child = int((base / "child").read_text())
    await until(lambda: not _alive(child))


def _alive(pid: int) -> bool:
    """A process that has ended may wait for a parent that collects it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
