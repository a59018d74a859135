"""Values from the command line, checked before anything is sent."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from pilothouse.cli.errors import Failure, Refused
from pilothouse.cli.text import plain
from pilothouse.core import sizes
from pilothouse.core.chat import PROMPT_MAX
from pilothouse.core.errors import NotFound
from pilothouse.core.ids import is_segment, is_uuid

_GIT_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[^/\s]+@[^/\s]+:")


class _Uuid(click.ParamType[str]):
    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_uuid(value):
            self.fail(f"{value!r} is no id: ids are UUIDs such as 5d0c7a7e-0000-4000-8000-000000000000", param, ctx)
        return str(value)


class _AnyId(click.ParamType[str]):
    """A session's id, or a job's, which its caller may have named."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not is_segment(value):
            self.fail(f"{value!r} is no id", param, ctx)
        return str(value)


class _Positive(click.ParamType[float]):
    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            number = float(value)
        except ValueError:
            self.fail(f"{value!r} is not a number", param, ctx)
        if not math.isfinite(number) or number <= 0:
            self.fail(f"{value} is not greater than 0", param, ctx)
        return number


class _Size(click.ParamType[int]):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return sizes.parse(str(value))
        except ValueError as error:
            self.fail(f"{value!r} is not {error}", param, ctx)


class _Word(click.ParamType[str]):
    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value).strip():
            self.fail("it is empty", param, ctx)
        return str(value)


WORD = _Word()
UUID = _Uuid()
ANY_ID = _AnyId()
POSITIVE = _Positive()
SIZE = _Size()


POLICIES = ("off", "allow", "full")
DOMAIN_HELP = "With the policy allow: only this domain, HOST or *.SUFFIX, instead of the configured ones. Repeatable."

_FIELDS = {
    "account": "--account",
    "agent": "--agent",
    "allowedTools": "--allowed-tools",
    "egress": "--allow-domain",
    "expiresInS": "--expires",
    "maxCostUsd": "--max-cost",
    "limits.cpu": "--cpu",
    "limits.disk": "--disk",
    "limits.memory": "--memory",
    "model": "--model",
    "name": "--name",
    "organisation": "--organisation",
    "permissionMode": "--permission-mode",
    "prompt": "PROMPT",
    "quotaPerDay": "--quota-per-day",
    "rateBurst": "--rate-burst",
    "ratePerS": "--rate-per-s",
    "scopes": "--scope",
    "source": "--source",
    "timeoutS": "--timeout",
    "title": "--title",
}
"""Field of the wire -> what the person typed it as."""


@contextmanager
def named() -> Iterator[None]:
    """What the server finds wrong with a field is wrong with an option: it is told as such. So is what one may not."""
    try:
        yield
    except Refused as refusal:
        fields, colon, what = refusal.message.partition(":")
        options = [_FIELDS.get(one) or _FIELDS.get(one.partition(".")[0]) or "" for one in fields.split(", ")]
        if refusal.status not in {400, 403, 413} or not colon or not all(options):
            raise
        told = f"{', '.join(options)}: {plain(what.strip())}"
        raise (Failure(told) if refusal.status == 403 else click.UsageError(told)) from None


@contextmanager
def known(what: str) -> Iterator[None]:
    """What the server does not find is told as what was looked for; what it says of a part of it stays."""
    try:
        yield
    except Refused as refusal:
        if refusal.status != 404 or refusal.message != NotFound().message:
            raise
        raise Failure(f"There is no {plain(what)}, or it is not yours to see.") from None


def prompt_text(value: str) -> str:
    """The prompt, from stdin for `-`."""
    if value == "-":
        data = sys.stdin.buffer.read(PROMPT_MAX + 1)
        try:
            value = data[:PROMPT_MAX].decode() if len(data) <= PROMPT_MAX else data.decode(errors="ignore")
        except UnicodeDecodeError:
            raise click.UsageError("PROMPT: standard input is not valid UTF-8.") from None
    if not value.strip():
        raise click.UsageError("PROMPT is empty.")
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise click.UsageError("PROMPT is not valid UTF-8.") from None
    if length > PROMPT_MAX:
        raise click.UsageError(f"PROMPT is longer than {PROMPT_MAX} bytes.")
    return value


def source(value: str | None) -> dict[str, str] | None:
    """A git URL, or a directory of this machine."""
    if value is None:
        return None
    if _GIT_URL.match(value):
        return {"git": value}
    folder = Path(value)
    if not folder.is_dir():
        raise click.UsageError(f"--source: {value!r} is neither a URL nor a directory.")
    return {"dir": str(folder.resolve())}


def egress(policy: str | None, domains: tuple[str, ...]) -> dict[str, Any] | None:
    """What a session is to reach, as the wire has it; None when nothing was said."""
    if policy is None and not domains:
        return None
    if domains and policy not in {None, "allow"}:
        raise click.UsageError(f"--allow-domain goes with the policy allow, not with {policy}.")
    return {"policy": policy or "allow", **({"domains": list(domains)} if domains else {})}


def words(option: str, value: str | None) -> list[str] | None:
    """A comma-separated list; commas inside parentheses belong to the pattern: `Bash(ls a,b)`."""
    if value is None:
        return None
    parts = [part.strip() for part in re.split(r",(?![^(]*\))", value)]
    if not all(parts):
        raise click.UsageError(f"{option}: {value!r} has an empty item.")
    return parts
