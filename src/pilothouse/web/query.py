"""What stands behind the `?` of an address that takes something there (`web.operations`): each name once, and none that
it does not know. One that is misspelt would filter nothing, or be about another organisation, in silence."""

from __future__ import annotations

from typing import get_origin
from urllib.parse import parse_qsl

from pilothouse.core.api import Page
from pilothouse.core.errors import BadRequest
from pilothouse.web.operations import OPERATIONS
from pilothouse.web.operations.base import PAGED, Operation

SIGNED = "X-Amz-"
"""How the parameters of a signature in the address begin: the guard has read them."""


def _names(operation: Operation) -> frozenset[str]:
    """A list takes those of a page also where it has but one."""
    own = frozenset(one.name for one in operation.query if one.where == "query")
    lists = any(get_origin(said.kind) is Page for said in operation.answers.values())
    return own | {one.name for one in PAGED} if own and lists else own


KNOWN = {(one.method, one.path): _names(one) for one in OPERATIONS}


def check(text: str, known: frozenset[str]) -> None:
    """`text`: as it was sent. Raises BadRequest naming the parameter."""
    seen: set[str] = set()
    for name, _ in parse_qsl(text, keep_blank_values=True):
        if name.startswith(SIGNED):
            continue
        if name not in known:
            raise BadRequest(f"{name[:50]}: no parameter of this; there are {', '.join(sorted(known))}")
        if name in seen:
            raise BadRequest(f"{name}: given twice")
        seen.add(name)
