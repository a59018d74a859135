"""What the package imports is what it declares: a machine without the tools of development must be able to run it."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

ROOT = Path(__file__).parents[2]
BROUGHT = {"websockets": "uvicorn.protocols.websockets"}
"""Imported for us by a library that does not declare it."""


def imported() -> dict[str, str]:
    """Top-level packages from outside that src names -> a file that does."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "src").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
                names += [library for library, via in BROUGHT.items() if names[0].startswith(via)]
            for name in names:
                found.setdefault(name.partition(".")[0], str(path.relative_to(ROOT)))
    return {k: v for k, v in found.items() if k not in sys.stdlib_module_names and k != "pilothouse"}


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return {line.partition(";")[0].split(">")[0].split("=")[0].strip() for line in project["dependencies"]}


def test_every_import_is_a_declared_dependency() -> None:
    owners = packages_distributions()
    wrong = {
        name: where for name, where in imported().items() if not {o.lower() for o in owners.get(name, [])} & declared()
    }
    assert not wrong
