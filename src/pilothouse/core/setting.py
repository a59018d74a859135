"""How a setting is declared: a field of `Config`, or of a dataclass that `Config` takes its fields from, whose metadata
say where it stands in the file, in the environment, and what it is for."""

from __future__ import annotations

from dataclasses import field
from typing import Any, TypeAlias

Size: TypeAlias = int
"""Bytes; people write `512M`, `2G`."""
YEAR_S = 366 * 86_400
"""No time-out is longer: beyond it dates end."""


def setting(
    default: Any,
    doc: str,
    *,
    key: str = "",
    env: str = "",
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
    secret: bool = False,
) -> Any:
    meta = {"doc": doc, "key": key, "env": env, "choices": choices, "low": low, "high": high, "secret": secret}
    return field(default=default, metadata=meta)
