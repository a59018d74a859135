"""The link: server <-> runner, JSON over one WebSocket (`/ws` of the runner), each message at most 32 KiB.

Greeting   runner -> server  {"hello": {"proto": 1, "runnerId", "agent", "agentVersion", "model"?, "capabilities": [],
                                        "first": n, "last": n}}
           server -> runner  {"attach": {"proto": 1, "acked": n, "fence": n, "env"?: {}}}
Events     runner -> server  {"n": 17, "ev": {...}}         numbered from 1, kept until acknowledged
           server -> runner  {"ack": 17}                    everything up to 17 is in the log
Commands   server -> runner  {"cmd": {"id", "type", ...}}   idempotent by id
           runner -> server  {"done": id, "error"?: text}
Fragments  either way        {"f": id, "i": 0, "n": 3, "d": "<base64>"}   of a message above, in order, 8 MiB in all

`fence` grows with every attach of one server; an attach with a lower one than the runner has seen is refused, a higher
one detaches whoever was attached. After `attach` the runner sends again every kept event after `acked`, so every open
ask comes again with it or is kept open by the runner's own repeat.

What a runner may say is `RunnerEvent`; everything else is dropped, counted and reported by the server. Parsing never
raises on hostile input: `Assembler.feed` returns `None` (incomplete), a message, or a `Broken` that says why.
"""

from __future__ import annotations

import base64
import binascii
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import Meta, Struct

from pilothouse.core import events as ev

PROTO = 1
MESSAGE_MAX = 32 * 1024
"""AgentCore refuses a longer WebSocket message."""
WHOLE_MAX = 8 * 1024 * 1024
"""A reassembled message."""
OPEN_FRAGMENTS_MAX = 4
"""Messages in pieces at one time; our sender has one."""
_PIECE = 20 * 1024
"""Raw bytes of one fragment: base64 makes 4/3 of it, the frame around it stays below MESSAGE_MAX."""


Word = Annotated[str, Meta(max_length=200)]


class _L(Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel"):
    pass


class Hello(_L, frozen=True, kw_only=True):
    proto: int
    runner_id: str
    agent: Word
    agent_version: Word
    first: ev.Count
    last: ev.Count
    capabilities: Annotated[list[Word], Meta(max_length=100)] = []
    model: Word = ""


class Attach(_L, frozen=True, kw_only=True):
    proto: int
    acked: int
    fence: int
    env: dict[str, str] = {}


class _RunnerOnly(ev.Event, frozen=True, kw_only=True):
    """Said by a runner, never logged as it stands."""


class AgentUsage(_RunnerOnly, frozen=True, kw_only=True, tag="agent_usage"):
    input_tokens: ev.Count = 0
    output_tokens: ev.Count = 0
    cache_read_tokens: ev.Count = 0
    cache_write_tokens: ev.Count = 0
    total_cost: float = 0.0


class PermissionAsk(_RunnerOnly, frozen=True, kw_only=True, tag="permission_ask"):
    request_id: str
    tool_id: str
    tool: str
    input: ev.Json
    reason: str = ""
    suggestions: list[ev.Json] = []
    """The agent's own proposals for "always": Claude's PermissionUpdate objects."""
    diff: list[ev.Diff] = []
    """What the call would change, where the runner can tell before it runs."""


class QuestionAsk(_RunnerOnly, frozen=True, kw_only=True, tag="question_ask"):
    request_id: str
    questions: list[ev.Question]


class AskCancelled(_RunnerOnly, frozen=True, kw_only=True, tag="ask_cancelled"):
    request_id: str


class TurnStarted(_RunnerOnly, frozen=True, kw_only=True, tag="turn_started"):
    turn_id: str
    """The id of the prompt command, or one of the runner's own when `injected`."""
    injected: bool = False


class TurnEnded(_RunnerOnly, frozen=True, kw_only=True, tag="turn_ended"):
    turn_id: str
    outcome: ev.Outcome
    result: str
    num_turns: ev.Count
    duration_ms: ev.Count
    reason: str | None = None


RunnerEvent: TypeAlias = (
    ev.Thinking
    | ev.Stream
    | ev.StreamReset
    | ev.Retry
    | ev.Plan
    | ev.ToolUse
    | ev.ToolOutput
    | ev.ToolResult
    | ev.SessionUpdate
    | ev.ErrorEvent
    | AgentUsage
    | PermissionAsk
    | QuestionAsk
    | AskCancelled
    | TurnStarted
    | TurnEnded
)


class Prompt(_L, frozen=True, kw_only=True, tag_field="type", tag="prompt"):
    id: str
    """The job's id; it is the turn's id too."""
    message: str
    permission_mode: str = "acceptEdits"
    model: str | None = None
    attachments: list[ev.Json] = []


class Steer(_L, frozen=True, kw_only=True, tag_field="type", tag="steer"):
    id: str
    message: str


class Interrupt(_L, frozen=True, kw_only=True, tag_field="type", tag="interrupt"):
    id: str


class PermissionAnswer(_L, frozen=True, kw_only=True, tag_field="type", tag="permission_answer"):
    id: str
    request_id: str
    behavior: Literal["allow", "deny"]
    updated_input: ev.Json = None
    message: str | None = None
    remember: ev.Json = None
    """A rule to hand to the agent for its own session, if it understands such."""
    mode: str | None = None
    """A permission mode to go on in (after `ExitPlanMode`)."""
    interrupt: bool = False


class QuestionAnswer(_L, frozen=True, kw_only=True, tag_field="type", tag="question_answer"):
    id: str
    request_id: str
    answers: dict[str, str] = {}
    message: str | None = None
    """Given instead of answers when nobody answered: what the agent is told."""


class SetMode(_L, frozen=True, kw_only=True, tag_field="type", tag="set_mode"):
    id: str
    mode: str


class SetModel(_L, frozen=True, kw_only=True, tag_field="type", tag="set_model"):
    id: str
    model: str


class Resume(_L, frozen=True, kw_only=True, tag_field="type", tag="resume"):
    id: str
    agent_session_id: str


class Shutdown(_L, frozen=True, kw_only=True, tag_field="type", tag="shutdown"):
    id: str


Command: TypeAlias = (
    Prompt | Steer | Interrupt | PermissionAnswer | QuestionAnswer | SetMode | SetModel | Resume | Shutdown
)


class FromRunner(_L, frozen=True, kw_only=True):
    """Any message of a runner; exactly one of hello, n+ev, done is meaningful. `ev` stays raw until it is checked."""

    hello: Hello | None = None
    n: Annotated[int, Meta(ge=1, le=ev.COUNT_MAX)] | None = None
    ev: msgspec.Raw = msgspec.Raw(b"")
    done: str | None = None
    error: str | None = None


class FromServer(_L, frozen=True, kw_only=True):
    attach: Attach | None = None
    ack: int | None = None
    cmd: Command | None = None


class Broken(Struct, frozen=True):
    """Why bytes from the other side were no message."""

    why: str


class _Fragment(_L, frozen=True, kw_only=True):
    f: str | int | None = None
    i: int = 0
    n: int = 0
    d: str = ""


_MALFORMED = (msgspec.MsgspecError, ValueError, RecursionError)
"""What decoding hostile bytes raises; a RecursionError means nesting beyond the interpreter's limit."""
_encode = msgspec.json.Encoder().encode
_fragment = msgspec.json.Decoder(_Fragment)
_from_runner = msgspec.json.Decoder(FromRunner)
_from_server = msgspec.json.Decoder(FromServer)
_runner_event = msgspec.json.Decoder(RunnerEvent)


def split(message: bytes, fragment_id: str) -> list[bytes]:
    """A message as it goes on the wire: itself, or its fragments."""
    if len(message) <= MESSAGE_MAX:
        return [message]
    pieces = [message[at : at + _PIECE] for at in range(0, len(message), _PIECE)]
    return [
        _encode({"f": fragment_id, "i": i, "n": len(pieces), "d": base64.b64encode(piece).decode()})
        for i, piece in enumerate(pieces)
    ]


def encode_event(n: int, event: ev.Event) -> bytes:
    return b'{"n":%d,"ev":%b}' % (n, _encode(event))


def encode(message: FromRunner | FromServer | dict[str, Any]) -> bytes:
    return _encode(message)


class Assembler:
    """Frames in, whole messages out: puts fragments together within the limits. One per connection."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[int, list[bytes]]] = {}
        self._held = 0

    def feed(self, frame: bytes) -> bytes | Broken | None:
        if len(frame) > MESSAGE_MAX:
            return Broken(f"message of {len(frame)} bytes, at most {MESSAGE_MAX}")
        if not frame.startswith(b'{"f":'):
            return frame
        try:
            part = _fragment.decode(frame)
            piece = base64.b64decode(part.d, validate=True)
        except (*_MALFORMED, binascii.Error) as error:
            return Broken(f"fragment: {error}")
        key = str(part.f)
        count, pieces = self._open.get(key, (part.n, []))
        if part.n != count or part.i != len(pieces) or not 0 < part.n <= WHOLE_MAX // 1024 or not piece:
            self._drop(key)
            return Broken("fragment out of order")
        if key not in self._open:
            if len(self._open) >= OPEN_FRAGMENTS_MAX:
                return Broken("too many messages in pieces")
            self._open[key] = (count, pieces)
        if self._held + len(piece) > WHOLE_MAX:
            self._drop(key)
            return Broken(f"message in pieces, at most {WHOLE_MAX} bytes")
        pieces.append(piece)
        self._held += len(piece)
        if len(pieces) < count:
            return None
        self._drop(key)
        return b"".join(pieces)

    def _drop(self, key: str) -> None:
        _, pieces = self._open.pop(key, (0, []))
        self._held -= sum(map(len, pieces))


def parse_runner(message: bytes) -> FromRunner | Broken:
    """A whole message of a runner."""
    try:
        return _from_runner.decode(message)
    except _MALFORMED as error:
        return Broken(str(error))


def parse_server(message: bytes) -> FromServer | Broken:
    """A whole message of a server."""
    try:
        return _from_server.decode(message)
    except _MALFORMED as error:
        return Broken(str(error))


def parse_event(raw: bytes) -> RunnerEvent | Broken:
    """The event of a runner's message, if it is one that a runner may say."""
    try:
        event: RunnerEvent = _runner_event.decode(raw)
    except _MALFORMED as error:
        return Broken(str(error))
    return event
