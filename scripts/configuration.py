"""Writes the table of settings into docs/configuration.md, from the one place that knows them: `config.settings()`.

.venv/bin/python scripts/configuration.py
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from pilothouse import config
from pilothouse.core import sizes

PAGE = Path(__file__).parents[1] / "docs" / "configuration.md"
BEGIN = "<!-- settings: scripts/configuration.py -->\n"
END = "<!-- end -->\n"


def table() -> str:
    rows = ["| In the file | In the environment | Default | What |", "|---|---|---|---|"]
    rows += [row(f) for f in config.settings()]
    return "\n".join(rows) + "\n"


def row(f: dataclasses.Field[Any]) -> str:
    meta = f.metadata
    doc = meta["doc"] + (f" One of: {', '.join(f'`{c}`' for c in meta['choices'])}." if meta["choices"] else "")
    cells = [code(meta["key"]), code(meta["env"]), default(f), doc]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def default(f: dataclasses.Field[Any]) -> str:
    value = f.default
    if f.name == "home":
        return "`~/.local/share/pilothouse`"
    if f.name == "runtime" or value is None or value in ((), ""):
        return ""
    if isinstance(value, tuple):
        return ", ".join(code(v) for v in value)
    if str(f.type).startswith("Size"):
        return code(sizes.text(value))
    if isinstance(value, bool):
        return code(str(value).lower())
    return code(str(value))


def code(text: str) -> str:
    return f"`{text}`" if text else ""


def written(page: str) -> str:
    """The page with its table as it should be."""
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}{table()}{END}{tail}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
    sys.stdout.write(f"{PAGE}\n")
