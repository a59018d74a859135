"""What is bounded, timed and private: checks that need no running program."""

from __future__ import annotations

import ast
import functools
import re
import tomllib
from pathlib import Path

import pytest

import pilothouse
from pilothouse.adapters.sandboxes import layout, sources
from pilothouse.core import chat, link, said
from pilothouse.core.errors import BadRequest
from pilothouse.engine import approvals, questions
from pilothouse.engine.kit import Limits as EngineLimits
from pilothouse.web.socket import Limits

ROOT = Path(__file__).parents[2]
SOURCES = sorted(Path(pilothouse.__file__).parent.rglob("*.py"))


@functools.cache
def tree(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(ast.parse(path.read_text())))


@functools.cache
def calls(path: Path) -> list[tuple[str, ast.Call]]:
    """Every call by the dotted name it is written with."""
    return [(ast.unparse(node.func), node) for node in tree(path) if isinstance(node, ast.Call)]


SHELLS = {"os.system", "os.popen", "eval", "exec", "subprocess.getoutput", "subprocess.getstatusoutput"}


def test_c07_no_command_is_made_as_a_text() -> None:
    """Argument lists only: nothing of ours has a shell read it."""
    for path in SOURCES:
        for name, call in calls(path):
            assert name not in SHELLS, (path, call.lineno)
            assert not name.endswith("subprocess_shell"), (path, call.lineno)
            assert "shell" not in [word.arg for word in call.keywords], (path, call.lineno)


@pytest.mark.parametrize("url", [
    "--upload-pack=touch x", "-u x", "ext::sh -c x", "file:///etc", "/etc", "ssh://-oProxyCommand=x/y", "https://",
    "https://-x/y", "https://a/b\nc", "https://a b/c", "https://u:p@h/x", "https://h/$(x)\r", "git://h/x", "http://h/x",
])  # fmt: skip
def test_c07_a_repositorys_address_is_no_option_and_no_command(url: str) -> None:
    with pytest.raises(BadRequest):
        sources.git_url(url, ("https",))


@pytest.mark.parametrize("name", [
    "..", ".", "", "../../etc", "a/b", "x\0", "x\n", "A" * 36, "01a1fca5-a696-7da8-a592-78b24218756", "x.ctl",
    "01A1FCA5-A696-7DA8-A592-78B242187567", "01a1fca5-a696-7da8-a592-78b242187567\n", "keeper",
])  # fmt: skip
def test_c09_only_a_uuid_of_ours_becomes_a_name_of_a_file(tmp_path: Path, name: str) -> None:
    made = layout.Layout(tmp_path, tmp_path)
    for where in (made.session, made.control, made.runner):
        with pytest.raises(layout.LayoutError):
            where(name)


def test_c26_what_is_written_on_the_host_goes_to_no_shared_place() -> None:
    """No fixed name in a directory that others write to; the library picks the names of temporary files."""
    inside = Path(pilothouse.__file__).parent / "adapters" / "sandboxes" / "escape"  # what runs in a session
    for path in (p for p in SOURCES if inside not in p.parents):
        for node in tree(path):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("/tmp/"):
                raise AssertionError((path, node.lineno))
        for name, call in calls(path):
            assert name.rpartition(".")[2] not in {"mktemp", "tempnam"}, (path, call.lineno)


def test_c29_both_ends_agree_on_what_silence_means() -> None:
    """Our ping comes twice before either end gives the other up; a handshake that goes on for ever does not."""
    page = (ROOT / "frontend" / "src" / "net" / "socket.ts").read_text()
    theirs = {name: int(ms.replace("_", "")) / 1000 for name, ms in re.findall(r"const ([A-Z_]+)_MS = ([\d_]+);", page)}
    ours = Limits()
    assert 2 * ours.ping_s < ours.silence_s == theirs["DEAD_AFTER"]
    assert 2 * theirs["PING_AFTER"] < ours.silence_s
    assert ours.handshake_s <= 10
    assert theirs["HANDSHAKE"] <= 10
    assert (ours.ping_s, ours.silence_s) == (chat.PING_EVERY_S, chat.SILENCE_S)


def test_c30_everything_that_others_can_make_grow_has_an_end() -> None:
    """One line each: what a client, a viewer, a runner or an agent could otherwise fill the memory with."""
    sockets, engine = Limits(), EngineLimits()
    assert chat.MESSAGE_MAX <= sockets.message <= 8 * 1024**2
    assert sockets.inbox <= 1024**2
    assert sockets.cut <= 16 * 1024**2
    assert link.MESSAGE_MAX == 32 * 1024
    assert link.WHOLE_MAX <= 8 * 1024**2
    assert link.OPEN_FRAGMENTS_MAX <= 4
    assert said.DEPTH_MAX <= 100
    assert approvals.PENDING_MAX <= 100
    assert questions.PENDING_MAX <= 100
    assert engine.sessions_max <= 100
    assert engine.queue_max <= 100


def test_c30_the_linter_that_finds_such_things_is_on() -> None:
    """Commands by shell, temporary names, weak hashes, bare excepts: the rules of ruff that the checks lean on."""
    chosen = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["ruff"]["lint"]
    assert {"S", "BLE", "ASYNC"} <= set(chosen["select"])
    assert not [rule for rule in chosen["ignore"] if rule.startswith("S") and rule != "S101"]
    assert not [
        where
        for where in chosen["per-file-ignores"]
        if where.startswith("src") and "S" in chosen["per-file-ignores"][where]
    ]
