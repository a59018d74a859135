"""Rules of `.gitignore` files. The oracle is git itself, where there is one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilothouse.core.ignore import RULES_MAX, Ignore, parse

CASES: list[tuple[str, list[str], list[str]]] = [
    ("*.log", ["a.log", "x/b.log", ".log"], ["a.log.txt", "log"]),
    ("/*.log", ["a.log"], ["x/b.log"]),
    ("build/", ["build/a", "x/build/b/c"], ["build", "x/building"]),
    ("a/b", ["a/b", "a/b/c"], ["x/a/b"]),
    ("**/b/c", ["b/c", "a/b/c", "a/x/b/c"], ["b/x/c"]),
    ("a/**/b", ["a/b", "a/x/b", "a/x/y/b"], ["b", "a/x"]),
    ("a/**", ["a/x", "a/x/y"], ["a", "b/a/x"]),
    ("*\n!keep\n", ["x"], ["keep"]),
    ("dir/\n!dir/keep", ["dir/keep"], []),
    ("dir/*\n!dir/keep", ["dir/x"], ["dir/keep"]),
    ("\\#x\n\\!y\n# no\n", ["#x", "!y"], ["no", "x"]),
    ("a \nb\\ \n", ["a", "b "], ["a ", "b"]),
    ("[a-c]?.txt", ["ab.txt"], ["d.txt", "dd.txt", "a.txt"]),
    ("[!a]x\n[]]y\n[[:digit:]]z", ["bx", "]y", "5z"], ["ax", "az"]),
    ("[open", [], ["[open", "o"]),
    ("x\\", [], ["x", "x\\"]),
    ("foo**bar\n", ["fooxbar", "foobar"], ["foo/bar"]),
    ("a\r\nb\r\n", ["a", "b"], ["a\r"]),
    ("\ufeffa\n", ["a"], []),
    ("a*b*c*d", ["axbxcxd", "abcd", "abcbcd"], ["abdc", "abc"]),
    ("new\nline", ["new", "line"], ["new\nline2"]),
    ("**", ["a", "b/c"], []),
    ("/", [], ["a"]),
]


@pytest.mark.parametrize(("text", "out", "kept"), CASES)
def test_a_rule_means_what_git_says(text: str, out: list[str], kept: list[str]) -> None:
    ignore = Ignore({"": parse(text)})
    assert [path for path in out if not ignore.leaves_out(path)] == []
    assert [path for path in kept if ignore.leaves_out(path)] == []


def test_a_deeper_file_wins_and_configured_rules_win_over_all() -> None:
    ignore = Ignore({"": parse("*.txt\ndist/"), "sub": parse("!a.txt")}, parse("!/dist/\n*.key"))
    assert not ignore.leaves_out("sub/a.txt")
    assert ignore.leaves_out("sub/b.txt") and ignore.leaves_out("a.txt")
    assert not ignore.leaves_out("dist/app.js")
    assert ignore.leaves_out("sub/x.key")


def test_stars_do_not_multiply() -> None:
    """With a plain regular expression this test has no end."""
    rules = parse("*" + "a*" * 60 + "b\n" + "**/a/" * 30 + "b")
    ignore = Ignore({"": rules})
    assert not ignore.leaves_out("a" * 255)
    assert not ignore.leaves_out("a/" * 60 + "c")


def test_rules_are_counted() -> None:
    assert len(parse("a\n" * 10_000)) == RULES_MAX


NAMES = st.text("ab.*", min_size=1, max_size=4).filter(lambda name: name.strip("."))
PATHS = st.lists(NAMES, min_size=1, max_size=4).map("/".join)
LINES = st.text("ab.*?/![]-\\ #^", min_size=1, max_size=10)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    subprocess.run(["git", "init", "-q", str(path)], check=True)
    return path


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the oracle")
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    top=st.lists(LINES, max_size=5), below=st.lists(LINES, max_size=3), paths=st.lists(PATHS, min_size=1, max_size=8)
)
def test_git_agrees(repository: Path, top: list[str], below: list[str], paths: list[str]) -> None:
    (repository / ".gitignore").write_text("\n".join(top))
    (repository / "a").mkdir(exist_ok=True)
    (repository / "a" / ".gitignore").write_text("\n".join(below))
    ignore = Ignore({"": parse("\n".join(top)), "a": parse("\n".join(below))})
    asked = [path for path in paths if path != "a"]  # on the disk that one is a directory
    done = subprocess.run(
        ["git", "-c", "core.excludesFile=/dev/null", "check-ignore", "--no-index", "-z", "--stdin"],
        cwd=repository, input="\0".join(asked).encode(), capture_output=True, check=False,
    )  # fmt: skip
    said = set(done.stdout.decode().split("\0")) - {""}
    assert {path for path in asked if ignore.leaves_out(path)} == said, done.stderr
