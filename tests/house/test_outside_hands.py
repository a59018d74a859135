"""What no code outside a session may do with what a session made: unpack it, or let git look at it.

An archive names the places of its files, and a repository's configuration names programs to run. So both happen
inside, where they can harm the session alone. (`pilothouse files --out` unpacks on the caller's machine, by code of its
own that makes every place itself.)
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import pilothouse

SOURCE = Path(pilothouse.__file__).parent
UNPACKING = re.compile(r"extractall|tarfile|zipfile.*extract|\.extract\(|unpack_archive|zipimport|\bcpio\b|\bunzip\b")
PACKING = "web/packed.py"
CLONE = "adapters/sandboxes/kept.py"
"""Makes the command that `run` starts inside."""


def modules() -> Iterator[tuple[str, str]]:
    for path in sorted(SOURCE.rglob("*.py")):
        yield str(path.relative_to(SOURCE)), path.read_text()


def is_git(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and re.fullmatch(r"(.*/)?git(-\S+)?( .*)?", node.value, re.DOTALL) is not None
    )


def commands(source: str) -> list[int]:
    """Lines that would start it: a list that begins with git, a call whose first argument is git (but `get`, and the
    parameter of an address)."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.List) and node.elts and is_git(node.elts[0]):
            found.append(node.lineno)
        called = getattr(node, "func", None)
        looked_up = getattr(called, "attr", "") == "get" or getattr(called, "id", "") == "Parameter"
        if isinstance(node, ast.Call) and node.args and is_git(node.args[0]) and not looked_up:
            found.append(node.lineno)
    return found


def test_nothing_unpacks_an_archive() -> None:
    found = [(name, m[0]) for name, text in modules() for m in UNPACKING.finditer(text)]
    assert {name for name, _ in found} == {PACKING}, found
    used = re.findall(r"tarfile\.(\w+)", (SOURCE / PACKING).read_text())
    assert set(used) == {"TarInfo", "PAX_FORMAT", "BLOCKSIZE"}, "it writes archives"


def test_git_is_started_inside_alone() -> None:
    found = [(name, line) for name, text in modules() for line in commands(text)]
    assert [name for name, _ in found] == [CLONE], found
    text = (SOURCE / CLONE).read_text()
    tree = ast.parse(text)
    maker = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "_clone")
    assert maker.end_lineno is not None
    assert maker.lineno < found[0][1] <= maker.end_lineno
    uses = [line.strip() for line in text.splitlines() if "_clone(" in line and "def " not in line]
    assert uses == ["done = await self.run(session, _clone(url), env, CLONE_MAX_S)"]


@pytest.mark.parametrize(
    "source",
    [
        'subprocess.run(["git", "status"])',
        'argv = ["/usr/bin/git", *more]',
        'await asyncio.create_subprocess_exec("git", "log")',
        'shutil.which("git")',
        'os.system("git status")',
        '["git-upload-pack", path]',
    ],
)
def test_the_rule_sees_git(source: str) -> None:
    assert commands(source)


@pytest.mark.parametrize(
    "source",
    ["archive.extractall(place)", "import tarfile", "zipfile.ZipFile(p).extract(n)", "shutil.unpack_archive(p)"],
)
def test_the_rule_sees_unpacking(source: str) -> None:
    assert UNPACKING.search(source)
