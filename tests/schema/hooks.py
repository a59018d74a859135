"""Loaded by schemathesis (`SCHEMATHESIS_HOOKS`): what it makes up is aimed at things that exist, and kept from the one
credential that it works with.

`PILOTHOUSE_TEST_AIM` is JSON: ids by the kind of thing, and `own`, the id of the key.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from typing import Any

import schemathesis

AIM = json.loads(os.environ.get("PILOTHOUSE_TEST_AIM", "{}"))
UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
NOBODY = "00000000-0000-4000-8000-000000000000"
KEY = "Idempotency-Key"
ENDS = {"/api/sessions/{id}"}
"""A thing that others are aimed at is not to be ended; what schemathesis has made itself, it may end."""


def _hit(value: Any) -> bool:
    """Two of three, and always the same ones. What is no id by its form stays so: it is to be refused."""
    return UUID.fullmatch(str(value)) is not None and sum(repr(value).encode()) % 3 != 0


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: dict[str, Any] | None) -> dict[str, Any] | None:
    operation = context.operation
    if not path_parameters or operation is None or "id" not in path_parameters:
        return path_parameters
    if operation.method.upper() == "DELETE" and operation.path in ENDS:
        return path_parameters
    kind = operation.path.split("/")[2]
    if kind in AIM and _hit(path_parameters["id"]):
        return {**path_parameters, "id": AIM[kind]}
    return path_parameters


_calls = itertools.count()


def _new_word(headers: Any) -> None:
    """What is made up comes again and again, and would be answered from memory: two of three are made new."""
    given = (headers or {}).get(KEY)
    if isinstance(given, str) and 0 < len(given) <= 150 and given.isascii() and given.isprintable() and _two_in_three():
        headers[KEY] = f"{given}-{next(_calls)}"


def _two_in_three() -> bool:
    return next(_calls) % 3 != 0


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    if case.path_parameters and case.path_parameters.get("id") == AIM.get("own"):
        case.path_parameters["id"] = NOBODY
    _new_word(case.headers)
    if case.operation.path == "/api/sessions" and isinstance(case.body, dict):
        case.body.pop("source", None)  # a clone from a made-up place takes a minute to fail
