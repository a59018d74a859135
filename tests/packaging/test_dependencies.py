"""What the package imports is what it declares: a machine without the tools of development must be able to run it."""

from __future__ import annotations

import ast
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BROUGHT = {"websockets": "uvicorn.protocols.websockets"}
"""Imported for us by a library that does not declare it."""


EXTRAS = {"otel": ROOT / "src" / "pilothouse" / "adapters" / "traces"}
"""Where alone the package of an extra is imported."""


def imported(extra: str | None = None) -> dict[str, str]:
    """Top-level packages from outside that src names -> a file that does; in an extra's folder, or elsewhere."""
    found: dict[str, str] = {}
    for path in sorted((ROOT / "src" if extra is None else EXTRAS[extra]).rglob("*.py")):
        if extra is None and any(path.is_relative_to(folder) for folder in EXTRAS.values()):
            continue
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


def declared(extra: str | None = None) -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [*project["dependencies"], *(project["optional-dependencies"][extra] if extra else [])]
    return {line.partition(";")[0].split(">")[0].split("=")[0].strip() for line in lines}


@pytest.mark.parametrize("extra", [None, *EXTRAS])
def test_every_import_is_a_declared_dependency(extra: str | None) -> None:
    owners, known = packages_distributions(), declared(extra)
    found = imported(extra)
    assert found
    wrong = {name: where for name, where in found.items() if not {o.lower() for o in owners.get(name, [])} & known}
    assert not wrong
