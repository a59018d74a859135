"""What is thrown at the event API: the corpus, what is like it, and what is like nothing.

`corpus/frames.json` and `corpus/bodies.json` hold texts by name, each character a byte (latin-1): all that the protocol
has, every row of its error tables, and whatever was found here once. Strategies take one of them, or make another of
the same fields, and then cut, double, flip and insert.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

CORPUS = Path(__file__).parent / "corpus"
KEY = "KEY"
"""Stands for a key of the server, which is another one at each start."""
SESSION = "00000000-0000-4000-8000-000000000000"
"""Stands for a session of the server, likewise."""


@functools.cache
def corpus(name: str) -> dict[str, bytes]:
    found: dict[str, str] = json.loads((CORPUS / f"{name}.json").read_text())
    return {key: text.encode("latin-1") for key, text in found.items()}


# --- JSON ---

NUMBERS = ["0", "-0", "-1", "1e999", "-1e999", "1e-999", "9007199254740993", "18446744073709551616", "1" * 400, "1.5e3"]
SPELLED = ["null", "true", "1", '""', '"x"', "{}", "[]", '"\\ud800"', '"\\u0000"', "nul", "01", "NaN", "[1,]", *NUMBERS]
"""Values that readers of JSON disagree about, spelled out."""
deep = st.integers(1, 1200).map(lambda n: "[" * n + "]" * n) | st.integers(1, 400).map(
    lambda n: '{"a":' * n + "1" + "}" * n
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=6,
)
values = st.sampled_from(SPELLED) | anything.map(json.dumps) | deep
"""Texts of one JSON value, or of nearly one."""

SEGMENT = st.sampled_from(["a", "b", "x" * 50, "x" * 51, "*", "", "-", "a_b", "é", "a\nb", "\0", " "])
NAMESPACE = st.sampled_from(["default", "kept", "lobby", "asked", "told", "closed", "dialog", "session", "nowhere"])
channel = (
    st.builds(lambda name, rest: "/".join([name, *rest]), NAMESPACE, st.lists(SEGMENT, max_size=3))
    | st.builds("{}/a".format, NAMESPACE)
    | st.builds("/{}/*".format, NAMESPACE)
    | st.just(f"/session/{SESSION}")
    | st.text(max_size=8)
)
ids = st.sampled_from(["s", "s", "p", "t", "u", "", "a b", "x" * 128, "x" * 129, "é"])
authorization: st.SearchStrategy[Any] = (
    st.just({"x-api-key": KEY})
    | st.just({"x-api-key": KEY})
    | st.sampled_from([
        {}, None, "x", 7, [], {"x-api-key": "wrong"}, {"x-api-key": 7}, {"x-api-key": KEY, "Authorization": "x"},
        {"Authorization": "yes, you may"}, {"Authorization": "no"}, {"Authorization": "a.b.c"},
        {"Authorization": "Bearer " + KEY}, {"authorization": "AWS4-HMAC-SHA256 Credential=x"},
        {"Authorization": "AWS4-HMAC-SHA256 Credential=A/20260101/r/appsync/aws4_request, SignedHeaders=host, "
         "Signature=" + "0" * 64, "host": "127.0.0.1", "x-amz-date": "20260101T000000Z"},
        {"Authorization": "eyJhbGciOiJub25lIn0.e30.e30"}, {"x-api-key": KEY, "host": {"a": [1]}, "x": "\0"},
    ])
    | st.dictionaries(st.sampled_from(["x-api-key", "Authorization", "host", "x-amz-date"]), anything, max_size=3)
)  # fmt: skip
custom = st.builds(
    lambda name, data: f'{{"type":"custom","name":{json.dumps(name)},"data":{data}}}', st.text(max_size=5), values
)
answers = st.builds(lambda answer: f'{{"answer":{answer}}}', values | st.sampled_from([
    '{"error":"no"}', '{"events":[]}', '{"events":[null]}', '{"events":[{"id":"ID","payload":1}]}',
    '{"events":[{"id":"ID","payload":1e3},{"id":"ID","error":7}]}', '{"events":[{"id":"other"}]}', '{"events":{}}',
    '{"raise":1}', '{"exit":1}', '{"large":1}', '{"never":1}',
]))  # fmt: skip
"""For the handler of `asked`, which answers what it is told to."""
event = values | custom | answers
events = st.lists(event, max_size=6)


@dataclass
class Frame:
    """A frame's fields, of which each may be missing or something else. `events` are texts."""

    fields: dict[str, Any]
    spelled: dict[str, str] = field(default_factory=dict)
    """Values that are no Python values, by name."""

    def encode(self) -> bytes:
        parts = [f"{json.dumps(name)}:{json.dumps(value)}" for name, value in self.fields.items()]
        parts += [f"{json.dumps(name)}:{text}" for name, text in self.spelled.items()]
        return ("{" + ",".join(parts) + "}").encode("utf-8", "surrogatepass")


_spelled = st.dictionaries(
    st.sampled_from(["type", "id", "channel", "events", "authorization", "after", "epoch", "presence", "key", "extra"]),
    values, max_size=1,
)  # fmt: skip
subscribe = st.builds(
    lambda name, channel, authorization, more, spelled: Frame(
        {"type": "subscribe", "id": name, "channel": channel, "authorization": authorization, **more}, spelled
    ),
    ids, channel, authorization,
    st.fixed_dictionaries({}, optional={
        "after": st.sampled_from([0, 1, 5, 2**53, -1, True, 1.5]), "epoch": st.text(max_size=3),
        "presence": st.booleans(),
    }),
    _spelled,
)  # fmt: skip
publish = st.builds(
    lambda name, channel, events, authorization, more, spelled: Frame(
        {"type": "publish", "id": name, "channel": channel, "events": events, "authorization": authorization}
        | more,
        spelled,
    ),
    ids, channel, events, authorization,
    st.fixed_dictionaries({}, optional={"key": st.sampled_from(["k", "l", "", "é", "x" * 129, "\n", 7])}),
    _spelled,
)  # fmt: skip
others = st.builds(
    lambda kind, name: Frame({"type": kind, "id": name}),
    st.sampled_from(["connection_init", "unsubscribe", "ka", "data", "", None, 7, "bogus"]), ids,
)  # fmt: skip


def _edited(data: bytes, edits: list[tuple[str, int, bytes]]) -> bytes:
    for what, place, some in edits:
        at = place % (len(data) + 1)
        if what == "cut":
            data = data[:at] + data[at + 1 + len(some) :]
        elif what == "insert":
            data = data[:at] + some + data[at:]
        elif what == "double":
            data = data[:at] + data[at : at + 8] + data[at:]
        elif data:
            at %= len(data)
            data = data[:at] + bytes([data[at] ^ (1 << place % 8)]) + data[at + 1 :]
    return data


edits = st.lists(
    st.tuples(st.sampled_from(["cut", "insert", "double", "flip"]), st.integers(0, 2000), st.binary(max_size=3)),
    max_size=3,
)
well_formed = (subscribe | publish | publish | others).map(Frame.encode)
frames = st.builds(
    _edited, st.sampled_from(sorted(corpus("frames").values())) | well_formed, st.just([]) | st.just([]) | edits
)
"""Texts of the client. Some are no UTF-8."""
bodies = st.builds(
    _edited,
    st.sampled_from(sorted(corpus("bodies").values()))
    | st.builds(
        lambda channel, events, more, spelled: Frame({"channel": channel, "events": events, **more}, spelled).encode(),
        channel, events,
        st.fixed_dictionaries({}, optional={"key": st.sampled_from(["k", "", 7]), "id": ids}),
        _spelled,
    ),
    st.just([]) | st.just([]) | edits,
)  # fmt: skip


# --- bytes on the wire ---

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


@dataclass(frozen=True)
class Packet:
    """A frame of RFC 6455, or what is nearly one."""

    payload: bytes
    opcode: int = TEXT
    fin: bool = True
    rsv: int = 0
    masked: bool = True
    claims: int | None = None
    """The length that its head tells, where it lies."""

    def encode(self) -> bytes:
        size = len(self.payload) if self.claims is None else self.claims
        head = bytes([self.fin << 7 | self.rsv << 4 | self.opcode])
        mask = self.masked << 7
        if size < 126:
            head += bytes([mask | size])
        elif size < 65536:
            head += bytes([mask | 126]) + size.to_bytes(2, "big")
        else:
            head += bytes([mask | 127]) + size.to_bytes(8, "big")
        return head + (b"\0\0\0\0" if self.masked else b"") + self.payload


said = frames.map(Packet)
pieces = st.builds(
    lambda data, at: [Packet(data[:at], fin=False), Packet(b"", PING), Packet(data[at:], 0)], frames, st.integers(0, 60)
)
closing = st.sampled_from([b"", b"\x03", b"\x03\xe8", b"\x03\xe8bye", b"\x03\xed", b"\x00\x00", b"\x03\xe8\xff"])
odd = (
    st.builds(Packet, st.binary(max_size=20), st.integers(0, 15), st.booleans(), st.integers(0, 7), st.booleans())
    | st.builds(Packet, st.binary(max_size=130), st.sampled_from([BINARY, PING, PONG]))
    | st.builds(Packet, closing, st.just(CLOSE))
    | st.builds(lambda n: Packet(b"", claims=n), st.sampled_from([8 * 2**20 + 1, 2**31, 2**63, 2**64 - 1]))
)
packets = st.lists(
    said.map(lambda one: [one]) | said.map(lambda one: [one]) | said.map(lambda one: [one]) | pieces
    | odd.map(lambda one: [one]),
    max_size=12,
).map(lambda groups: [one for group in groups for one in group])  # fmt: skip

OFFERS = [
    "aws-appsync-event-ws", "aws-appsync-event-ws, header-HEADERS", "header-HEADERS, aws-appsync-event-ws",
    "header-HEADERS", "aws-appsync-event-ws, header-!!", "aws-appsync-event-ws, header-e30, header-e30",
    "aws-appsync-event-ws, header-", "x, y", "", "header-" + "A" * 40_000 + ", aws-appsync-event-ws",
]  # fmt: skip
"""HEADERS stands for an object of headers in base64url."""


@dataclass(frozen=True)
class Opening:
    offer: str
    shown: Any
    """What HEADERS stands for, or the headers of the upgrade where there is none."""
    path: str
    extra: tuple[tuple[str, str], ...] = ()


GOOD = Opening(OFFERS[1], {"x-api-key": KEY}, "/event/realtime")
openings = (
    st.just(GOOD)
    | st.just(GOOD)
    | st.just(GOOD)
    | st.builds(
        Opening, st.sampled_from(OFFERS), authorization,
        st.sampled_from(["/event/realtime", "/event//realtime/", "/event/realtime?header=e30&payload=e", "/event/%2e"]),
        st.lists(st.sampled_from([
            ("origin", "https://evil.example"), ("origin", "null"), ("x-api-key", KEY), ("x-api-key", "\xff"),
            ("authorization", "Basic eDp5"), ("sec-websocket-version", "12"), ("cookie", "pilothouse=x"),
        ]), max_size=2).map(tuple),
    )
)  # fmt: skip


@dataclass(frozen=True)
class Post:
    body: bytes
    headers: tuple[tuple[str, str], ...]
    chunked: bool = False
    lie: int = 0
    """Added to the length that is told."""


posts = st.builds(
    Post, bodies,
    st.just((("x-api-key", KEY),)) | st.just((("x-api-key", KEY),)) | st.lists(st.sampled_from([
        ("x-api-key", KEY), ("x-api-key", "wrong"), ("authorization", "yes"), ("authorization", "AWS4-HMAC-SHA256 x"),
        ("idempotency-key", "k"), ("idempotency-key", "\xe9"), ("content-type", "\xff"), ("origin", "null"),
        ("content-encoding", "amz-1.0"), ("expect", "100-continue"), ("content-encoding", "gzip"), ("x-amz-date", "x"),
    ]), max_size=3).map(tuple),
    st.booleans(), st.sampled_from([0, 0, 0, 0, 1, -1]),
)  # fmt: skip
