"""What no store takes: found before it is in line, so that a caller's mistake never costs others their batch."""

from __future__ import annotations

from collections.abc import Sequence

from pilothouse.engine.ports import Append, Delete, Mark, Op, Purge, Put

N_MAX = 2**63 - 1
"""The largest number that a column holds."""
BODY_MAX = 16 * 1024 * 1024
"""Far over any event or document; a guard against a mistake, not a limit for callers to plan with."""


def check(ops: Sequence[Op]) -> None:
    """Raises ValueError, naming what is wrong."""
    for op in ops:
        match op:
            case Append(session, body):
                _text(session, "session")
                if not (body.startswith(b"{") and body.endswith(b"}") and len(body) > 2):
                    raise ValueError("event: expected a JSON object with members")
                _size(body, "event")
            case Put(kind, id, doc, owner):
                _text(kind, "kind")
                _text(id, "id")
                owner.encode()
                _size(doc, "document")
            case Delete(kind, id):
                _text(kind, "kind")
                _text(id, "id")
            case Mark(source, n):
                _text(source, "source")
                if not 0 < n <= N_MAX:
                    raise ValueError(f"mark: {n} is not between 1 and {N_MAX}")
            case Purge(session):
                _text(session, "session")


def weight(ops: Sequence[Op]) -> int:
    """About how many bytes a commit writes."""
    return sum(len(op.body) if isinstance(op, Append) else len(op.doc) for op in ops if isinstance(op, Append | Put))


def _text(value: str, name: str) -> None:
    if not value:
        raise ValueError(f"{name}: empty")
    value.encode()  # UnicodeEncodeError, a ValueError, for lone surrogates


def _size(value: bytes, name: str) -> None:
    if len(value) > BODY_MAX:
        raise ValueError(f"{name}: {len(value)} bytes, at most {BODY_MAX}")
