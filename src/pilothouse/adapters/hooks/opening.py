"""A hook from its name in the configuration."""

from __future__ import annotations

from collections.abc import Iterable

from pilothouse.adapters.hooks.http import HttpHook
from pilothouse.adapters.hooks.python import PythonHook
from pilothouse.engine.hooks import Hook


def opened(name: str, secret: str = "", private: Iterable[str] = ()) -> Hook:
    """`https://…`, or `package.module:callable`. Raises NoCallable."""
    if name.startswith(("https://", "http://")):
        return HttpHook(name, secret, frozenset(private))
    return PythonHook.load(name)
