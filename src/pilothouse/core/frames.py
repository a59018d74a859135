"""The frames of a terminal, as the AgentCore Shell API speaks them. One binary WebSocket message is one frame: a byte
that names its channel, then the payload.

    0x00  STDIN      client -> server   bytes for the shell
    0x01  STDOUT     server -> client   bytes of the shell, its stdout and stderr alike
    0x02  STDERR     server -> client   what the server has to say of it, UTF-8
    0x03  STATUS     server -> client   JSON, below
    0x04  RESIZE     client -> server   {"width": cols, "height": rows}, whole numbers of 1-1000
    0x05  HEARTBEAT  both               any payload; the server sends it back
    0x10  CONTROL    both               JSON of our own viewers (`core.control`); unknown to the Shell API
    0xFF  CLOSE      client -> server   end the shell; the server answers 0xFF and closes (1000)
                     server -> client   the server ends it

STATUS is a Kubernetes `metav1.Status`. Clients tell the two kinds apart by `metadata.shellId`:

    attached  {"kind": "Status", "apiVersion": "v1", "status": "Success",
               "metadata": {"shellId", "reconnected": bool, "bytesDropped"?: n > 0, "offset"?: n}}
              `offset`, for our own viewers: where in the shell's output the next STDOUT byte is. The same STATUS, with
              `bytesDropped`, tells a viewer who fell behind what it has not been sent.
    exit 0    {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    exit n    {..., "status": "Failure", "reason": "NonZeroExitCode", "message": "command terminated with exit code n",
               "details": {"causes": [{"reason": "ExitCode", "message": "n"}]}}
    signal s  the same with n = 128 + s and a second cause {"reason": "Signal", "message": "s"}
    failed    {..., "status": "Failure", "reason": "InternalError", "message": text, "code": 500}

What a client may not send is a `Fault`. It changes nothing. One that stands alone is told on STDERR (a text message is
not even that: the Shell API ignores it); FAULTS_MAX in a row, or a fatal one at once, close the connection:

    text        1003   a text message
    empty       1003   no channel byte
    channel     1003   a channel that is not in the table, or CONTROL where it is not spoken
    direction   1003   a channel that only the server speaks on
    resize      1008   no JSON object of two whole numbers of 1-1000
    control     1008   not a message of `core.control`
    oversize    1009   fatal: more than MESSAGE_MAX bytes
    rate        1008   fatal: more than RATE_MAX frames within a second
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

from pilothouse.core.errors import BadRequest
from pilothouse.core.shell import Exit, ShellId, Size, size

STDIN: Final = 0x00
STDOUT: Final = 0x01
STDERR: Final = 0x02
STATUS: Final = 0x03
RESIZE: Final = 0x04
HEARTBEAT: Final = 0x05
CONTROL: Final = 0x10
CLOSE: Final = 0xFF

MESSAGE_MAX = 65_537
"""Taken: 64 KiB of payload and the channel byte, which is what the most generous client sends."""
SEND_MAX = 65_536
"""Sent, channel byte included: one client refuses longer messages."""
CHUNK = 63 * 1024
"""Bytes of output in one frame, at most: below SEND_MAX, and whole pages."""
RATE_MAX = 250
"""Frames of one connection in any one second; the Shell API's bound."""
RATE_S = 1.0
PACE_BURST = 50
"""An echo for every key of the fastest typist, and a screen drawn in many pieces, are never paced."""
PACE = 190
"""Frames a second after that: with the burst within RATE_MAX, STATUS and heartbeats included; 12 MB/s of output."""
FAULTS_MAX = 5
"""In a row; the Shell API's bound for text messages."""
SHOWN_MAX = 80
"""Characters of a client's own words in an answer to it."""

NORMAL = 1000
AWAY = 1001
UNSUPPORTED = 1003
POLICY = 1008
TOO_BIG = 1009
BROKEN = 1011
TAKEN = 4000
"""Another connection took this shell."""


class Stdin(bytes):
    """The input itself: made for every key, and this costs less than an object that holds it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Resize:
    size: Size


@dataclass(frozen=True, slots=True)
class Heartbeat:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Control:
    payload: bytes


@dataclass(frozen=True, slots=True)
class Close:
    pass


@dataclass(frozen=True, slots=True)
class Fault:
    """A message that is not carried out."""

    name: str
    close: int
    message: str
    fatal: bool = False


Frame = Stdin | Resize | Heartbeat | Control | Close

_SERVERS = {STDOUT: "STDOUT", STDERR: "STDERR", STATUS: "STATUS"}
TEXT = Fault("text", UNSUPPORTED, "a text message: frames are binary")
EMPTY = Fault("empty", UNSUPPORTED, "an empty message: the first byte names the channel")
OVERSIZE = Fault("oversize", TOO_BIG, f"a message of more than {MESSAGE_MAX} bytes", fatal=True)
RATE = Fault("rate", POLICY, f"more than {RATE_MAX} frames within a second", fatal=True)


def decode(message: bytes, *, control: bool = False) -> Frame | Fault:
    """`control`: whether CONTROL is spoken here."""
    if not message:
        return EMPTY
    if len(message) > MESSAGE_MAX:
        return OVERSIZE
    channel = message[0]
    if channel == STDIN:
        return Stdin(message[1:])
    if channel == RESIZE:
        return _resize(message[1:])
    if channel == HEARTBEAT:
        return Heartbeat(message[1:])
    if channel == CLOSE:
        return Close()
    if channel == CONTROL and control:
        return Control(message[1:])
    if channel in _SERVERS:
        return Fault("direction", UNSUPPORTED, f"channel {_SERVERS[channel]}: only the server sends on it")
    return Fault("channel", UNSUPPORTED, f"channel 0x{channel:02x}: there is no such channel")


def _resize(payload: bytes) -> Resize | Fault:
    try:
        asked = json.loads(payload)
        if not isinstance(asked, dict):
            raise BadRequest("expected an object with width and height")
        return Resize(size(asked.get("width"), asked.get("height")))
    except (ValueError, RecursionError):
        return Fault("resize", POLICY, "RESIZE: not JSON")
    except BadRequest as error:
        return Fault("resize", POLICY, f"RESIZE: {error.message}")


class Incoming:
    """The frames of one connection, with the two bounds that need a memory: how fast, how many faults in a row."""

    __slots__ = ("_control", "_faults", "_times")

    def __init__(self, *, control: bool = False) -> None:
        self._control = control
        self._faults = 0
        self._times: list[float] = []
        """At most RATE_MAX. Not a deque: an empty one takes 600 bytes."""

    def take(self, message: bytes, now: float, text: bool = False) -> Frame | Fault:
        """`now`: seconds of any clock that does not jump. A fault that closes the connection comes back fatal."""
        times = self._times
        while times and now - times[0] >= RATE_S:
            del times[0]
        if len(times) >= RATE_MAX:
            return RATE
        times.append(now)
        if not text and 0 < len(message) <= MESSAGE_MAX and message[0] == STDIN:  # a key waits for no more than this
            self._faults = 0
            return Stdin(message[1:])
        return self.judge(TEXT if text else decode(message, control=self._control))

    def judge(self, found: Frame | Fault) -> Frame | Fault:
        """Counts faults, also those that are seen further in: whether a control message means something is not known
        here, so that none breaks a row of them."""
        if not isinstance(found, Fault):
            self._faults = self._faults if isinstance(found, Control) else 0
            return found
        self._faults += 1
        if found.fatal or self._faults < FAULTS_MAX:
            return found
        return Fault(found.name, found.close, f"{found.message} ({FAULTS_MAX} in a row)", fatal=True)


class Pace:
    """The frames that a plain client is sent: a burst, then so many a second that RATE_MAX is never exceeded. What is
    not sent now goes with the next frame, so output is slowed by the size of a frame and not by their number."""

    __slots__ = ("_at", "_left")

    def __init__(self) -> None:
        self._left = float(PACE_BURST)
        self._at = 0.0

    def wait(self, now: float) -> float:
        """0 if a frame may go now, and it counts as gone; else how long until one may."""
        self._left = min(PACE_BURST, self._left + (now - self._at) * PACE) if self._at else self._left
        self._at = now
        if self._left < 1:
            return (1 - self._left) / PACE
        self._left -= 1
        return 0.0


# --- what the server sends --------------------------------------------------------------------------------------------

CLOSING = bytes([CLOSE])


def stdout(data: bytes | bytearray | memoryview) -> bytes:
    """At most SEND_MAX - 1 bytes, and at least one."""
    return b"".join((b"\x01", data))


def stderr(text: str) -> bytes:
    """Cut at a character, should it be too long."""
    whole = text.encode("utf-8", "replace")[: SEND_MAX - 1]
    return b"\x02" + whole.decode("utf-8", "ignore").encode()


def heartbeat(payload: bytes) -> bytes:
    return b"\x05" + payload[: SEND_MAX - 1]


def control(payload: bytes) -> bytes:
    return b"\x10" + payload


def _status(metadata: dict[str, object], **more: object) -> bytes:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": metadata, **more}
    return b"\x03" + json.dumps(body, separators=(",", ":")).encode()


def attached(shell: ShellId, *, reconnected: bool, dropped: int = 0, **ours: int | str) -> bytes:
    """`ours`: what only our own viewers are told, such as `offset`."""
    metadata: dict[str, object] = {"shellId": shell, "reconnected": reconnected}
    if dropped > 0:
        metadata["bytesDropped"] = dropped
    return _status(metadata | ours, status="Success")


def ended(exit: Exit) -> bytes:
    if exit.status == 0:
        return _status({}, status="Success")
    causes = [{"reason": "ExitCode", "message": str(exit.status)}]
    if exit.signal:
        causes.append({"reason": "Signal", "message": str(exit.signal)})
    return _status(
        {},
        status="Failure",
        reason="NonZeroExitCode",
        message=f"command terminated with exit code {exit.status}",
        details={"causes": causes},
    )


def failed(message: str) -> bytes:
    return _status({}, status="Failure", reason="InternalError", message=message, code=500)
