"""`POST /invoke` and `POST /trigger`: a prompt as a program gives it, and its end as it is told. JSON, snake_case.

request, bare or inside {"input": {…}}; unknown fields are refused by name, null is as good as left out
    {"prompt", "permission_mode"? (acceptEdits), "allowed_tools"? (all), "session_id"?, "agent"?, "model"?,
     "timeout_s"?, "max_cost_usd"?, "max_tokens"?, "cancel_on_disconnect"? (false), "job_id"?}
answer of /invoke, when the job has ended
    {"output": {"success", "result", "session_id", "timestamp", "model",
      "metadata": {"duration_ms", "num_turns", "total_cost_usd", "job_id",
        "uploaded_files": [{"file_name", "s3_url", "url", "console_url", "size", "sha256"}]}}}
answer of /trigger, at once
    {"jobId", "sessionId", "channel": "/dialog/JOB"}

`allowed_tools` is one text, its entries between commas; commas inside brackets belong to a pattern, as in
`Read,Bash(git log --format=%h,%s)`. `job_id` is the caller's own name for the job, one segment of a channel.
`timestamp` is UTC without a zone, with microseconds.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from pilothouse.core import policy
from pilothouse.core.chat import explain
from pilothouse.core.errors import BadRequest, TooLarge
from pilothouse.core.ids import is_segment, is_uuid

MODE = "acceptEdits"
"""Of a call that names none, whatever sessions begin in otherwise: scripts were written for it."""
TIMEOUT_MAX_S = 86_400
COST_MAX = 1e6
COUNT_MAX = 2**53
_FIELD = re.compile(r"\A[a-z]+(?:[A-Z][a-z]*)+(?=[:.])")
_PLACE = re.compile(r"[\w.\[\]]+: |.*: (?:there is no such field|it is missing)\Z", re.S)
_CAPITAL = re.compile(r"[A-Z]")
_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
# What msgspec does not check is told all the same, for the API's document; `_check` says it in better words.
_Timeout = Annotated[int, Meta(description="Seconds.", extra_json_schema={"minimum": 1, "maximum": TIMEOUT_MAX_S})]
_Cost = Annotated[
    float,
    Meta(
        description="US dollars; at it the job ends.",
        extra_json_schema={"exclusiveMinimum": 0, "exclusiveMaximum": COST_MAX},
    ),
]
_Count = Annotated[int, Meta(description="At it the job ends.", extra_json_schema={"minimum": 1, "maximum": COUNT_MAX})]
_Name = Annotated[
    str,
    Meta(
        description="The caller's own word for its job.",
        extra_json_schema={"pattern": "^[A-Za-z0-9](?:[A-Za-z0-9-]{0,48}[A-Za-z0-9])?$"},
    ),
]
_Word = Annotated[str, Meta(min_length=1, max_length=200)]
_Cancel = Annotated[
    bool,
    Meta(
        description="Of `/invoke`: the job is interrupted when the last one who waits for it has gone. `/trigger` "
        "takes the same request, and since nobody waits there it changes nothing."
    ),
]


class Wish(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request that is in order."""

    prompt: str
    permission_mode: _Word | None = None
    allowed_tools: str | None = None
    session_id: str | None = None
    agent: _Word | None = None
    model: _Word | None = None
    timeout_s: _Timeout | None = None
    max_cost_usd: _Cost | None = None
    max_tokens: _Count | None = None
    cancel_on_disconnect: _Cancel | None = None
    job_id: _Name | None = None

    @property
    def mode(self) -> str:
        return MODE if self.permission_mode is None else self.permission_mode

    @property
    def tools(self) -> list[str] | None:
        return None if self.allowed_tools is None else split(self.allowed_tools)


class File(Struct, frozen=True, kw_only=True):
    """One that the job made or changed."""

    file_name: str
    s3_url: str | None
    url: str
    console_url: str | None
    size: int
    sha256: str


class Metadata(Struct, frozen=True, kw_only=True):
    duration_ms: int
    num_turns: int
    total_cost_usd: float
    job_id: str
    uploaded_files: list[File]


class Output(Struct, frozen=True, kw_only=True):
    success: bool
    result: str
    session_id: str
    timestamp: str
    model: str
    metadata: Metadata


class Answer(Struct, frozen=True):
    output: Output


class Accepted(Struct, frozen=True, kw_only=True, rename="camel"):
    job_id: str
    session_id: str
    channel: str


_outer = msgspec.json.Decoder(dict[str, msgspec.Raw])
_wish = msgspec.json.Decoder(Wish)
_encoder = msgspec.json.Encoder()


def wish(body: bytes, prompt_max: int) -> Wish:
    """Raises BadRequest naming the field; TooLarge for a prompt of more than `prompt_max` bytes."""
    if not body.strip():
        raise BadRequest("body: it is empty; expected JSON")
    try:
        body.decode()
        fields = _outer.decode(body)
        given = _wish.decode(_inner(fields) if "input" in fields else body)
    except _MALFORMED as error:
        raise BadRequest(_named(error)) from None
    _check_prompt(given.prompt, prompt_max)
    _check(given)
    return given


def _inner(fields: dict[str, msgspec.Raw]) -> msgspec.Raw:
    beside = next((name for name in fields if name != "input"), None)
    if beside is not None:
        raise BadRequest(f"{beside[:50]!r}: nothing stands beside 'input'; put it inside")
    if not bytes(fields["input"]).lstrip().startswith(b"{"):
        raise BadRequest("input: expected an object")
    return fields["input"]


def _named(error: Exception) -> str:
    text = explain(error)
    return text.replace("message:", "body:", 1) if _PLACE.match(text) else f"body: {text}"


def _check_prompt(prompt: str, most: int) -> None:
    size = len(prompt.encode("utf-8", "surrogatepass"))
    if size > most:
        raise TooLarge(f"prompt: {size} bytes, at most {most}")
    if not prompt.strip():
        raise BadRequest("prompt: it is empty")
    if "\x00" in prompt:
        raise BadRequest("prompt: it has a NUL character")


def _check(given: Wish) -> None:
    with snake():
        policy.mode(given.mode)
        if given.tools is not None:
            policy.allowed_tools(given.tools)
    if given.session_id is not None and not is_uuid(given.session_id):
        raise BadRequest("session_id: expected a UUID")
    if given.job_id is not None and not is_segment(given.job_id):
        raise BadRequest("job_id: 1 to 50 letters, digits and dashes, no dash at an end")
    if given.timeout_s is not None and not 1 <= given.timeout_s <= TIMEOUT_MAX_S:
        raise BadRequest(f"timeout_s: from 1 to {TIMEOUT_MAX_S}")
    if given.max_cost_usd is not None and not 0 < given.max_cost_usd < COST_MAX:
        raise BadRequest("max_cost_usd: more than 0, less than 1000000")
    if given.max_tokens is not None and not 1 <= given.max_tokens <= COUNT_MAX:
        raise BadRequest(f"max_tokens: from 1 to {COUNT_MAX}")


@contextlib.contextmanager
def snake() -> Iterator[None]:
    """What is refused inside names fields as everywhere else, in camelCase; from here on as the caller did."""
    try:
        yield
    except BadRequest as error:
        told = _FIELD.sub(lambda found: _CAPITAL.sub(lambda c: "_" + c[0].lower(), found[0]), error.message)
        raise BadRequest(told, code=error.code, **error.details) from None


def split(text: str) -> list[str]:
    """The entries of `allowed_tools`. Raises BadRequest."""
    entries, start, depth = [], 0, 0
    for at, letter in enumerate(text):
        if letter == "(":
            depth += 1
        elif letter == ")":
            depth -= 1
        elif letter == "," and depth <= 0:
            entries.append(text[start:at].strip())
            start = at + 1
    entries.append(text[start:].strip())
    if not all(entries):
        raise BadRequest("allowed_tools: an entry is empty; leave the field out to allow all tools")
    return entries


def answer(
    *,
    success: bool,
    result: str,
    session_id: str,
    ended_at: str,
    model: str,
    duration_ms: int,
    num_turns: int,
    cost_usd: float,
    job_id: str,
    files: list[File],
) -> bytes:
    """`ended_at`: RFC 3339 in UTC, as events have it."""
    metadata = Metadata(
        duration_ms=duration_ms, num_turns=num_turns, total_cost_usd=cost_usd, job_id=job_id, uploaded_files=files
    )
    output = Output(
        success=success,
        result=result,
        session_id=session_id,
        timestamp=_without_zone(ended_at),
        model=model,
        metadata=metadata,
    )
    return _encoder.encode(Answer(output))


def _without_zone(moment: str) -> str:
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    return f"{whole}.{fraction:0<6.6}"
