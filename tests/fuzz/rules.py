"""What has to hold whatever is said: of the pure core here, and of the answers that the whole server gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from pilothouse.core import appsync, channels, handler, publish
from pilothouse.core.appsync import Connection, Publish, Refusal, Reply, Subscribe, Unsubscribe
from pilothouse.core.channels import BadChannel
from pilothouse.core.publish import Bad, Event

KINDS = frozenset({
    "connection_ack", "ka", "connection_error", "subscribe_success", "unsubscribe_success", "publish_success",
    "subscribe_error", "unsubscribe_error", "publish_error", "data", "gap", "presence", "error",
})  # fmt: skip
TYPES = frozenset({
    "UnauthorizedException", "Unauthorized", "BadRequestException", "MaxSubscriptionsReachedError",
    "LimitExceededError", "UnsupportedOperation", "InvalidInputError", "DuplicatedOperationError", "HandlerError",
    "UnknownOperationError", "SubProtocolNotSupportedError", "ConflictException", "ServiceUnavailableException",
})  # fmt: skip
CODES = frozenset({1000, 1001, 1002, 1007, 1009})
"""With which a connection may be closed: what the protocol of frames was broken by, or the credential was wrong."""


def closing(code: int, given: set[int]) -> bool:
    """Whether a close may say so. `given`: what the client's own closes said, of which one may be given back, if it is
    one that may be said at all."""
    sayable = 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999
    return code in CODES or (code in given and sayable)


STATUSES = frozenset({200, 400, 401, 403, 404, 405, 408, 409, 411, 413, 421, 429, 431})
MESSAGE_MAX = 400


def frame(raw: bytes) -> dict[str, Any]:
    """One that a client is sent."""
    said = json.loads(raw)
    assert isinstance(said, dict), raw
    assert said["type"] in KINDS, said
    if said["type"].endswith("error"):
        for problem in said["errors"]:
            refused(problem)
    if said["type"] == "data":
        assert isinstance(said["event"], str), "anything else ends the receive loop of clients"
        loads(said["event"])
    if isinstance(said.get("id"), str):
        assert len(said["id"]) <= appsync.ID_MAX, said
    return said


def refused(problem: dict[str, Any]) -> None:
    assert problem["errorType"] in TYPES, problem
    assert 0 < len(problem["message"]) <= MESSAGE_MAX, problem


def loads(text: str) -> Any:
    try:
        return json.loads(text, parse_int=str, parse_float=str)
    except RecursionError:
        return None  # as deep as its reader would have it


def conversation(frames: Sequence[bytes]) -> None:
    """The core alone. What it would do is done at once, every other time refused."""
    connection, yes = Connection(0.0), True
    for number, data in enumerate(frames):
        step = connection.take(data, text=True, now=float(number))
        if isinstance(step, Reply):
            assert step.frames, "never silence"
            for raw in step.frames:
                frame(raw)
            continue
        yes, said = not yes, None
        match step:
            case Subscribe():
                assert channels.pattern(step.said) == step.pattern
                said = connection.subscribed(step, seq=1) if yes else connection.refused(step, Refusal())
            case Unsubscribe():
                said = connection.unsubscribed(step)
            case Publish():
                assert channels.channel(step.said) == step.channel
                accepted(step.events)
                said = connection.published(step, [], []) if yes else connection.refused(step, Refusal())
        assert said is not None
        assert frame(said)["id"] == step.id
    binary = connection.take(frames[0] if frames else b"", text=False, now=float(len(frames)))
    assert isinstance(binary, Reply)


def body(data: bytes) -> None:
    try:
        wanted = publish.request(data)
    except Bad as error:
        refused({"errorType": error.type, "message": str(error)})
        return
    accepted(wanted.events)


def accepted(events: Sequence[Event]) -> None:
    """What goes out is what came in, and every reader of JSON can read it."""
    assert 0 < len(events) <= publish.EVENTS_MAX
    for event in events:
        assert json.loads(event.raw) == event.text
        loads(event.text)
        sent = frame(appsync.data_head("s") + publish.rest(event))
        assert sent["event"] == event.text
    try:
        asked = handler.asked("PUBLISH", channels.channel("a/b"), None, {}, [("ID", event) for event in events])
    except Bad as error:
        refused({"errorType": error.type, "message": str(error)})
        return
    assert len(asked["events"]) == len(events)


def answer(said: Any) -> None:
    """Of a handler."""
    try:
        outcome = handler.published(said, ["ID", "other"])
    except handler.NoAnswer as error:
        assert str(error).isprintable()
        return
    for id, event in outcome.events:
        assert id not in outcome.failed
        assert json.loads(event.raw) == event.text


def channel(text: str) -> None:
    for read in (channels.channel, channels.pattern):
        try:
            found = read(text)
        except BadChannel as error:
            assert error.message.isprintable()
            continue
        assert read(found.path) == found


def published(status: int, headers: dict[str, str], raw: bytes) -> None:
    """An answer to `POST /event`."""
    assert status in STATUSES, (status, raw[:300])
    if status != 200:
        if "x-amzn-errortype" in headers:  # else it was no request of HTTP, or none that is ours
            [problem] = json.loads(raw)["errors"]
            refused(problem)
            assert headers["x-amzn-errortype"] == problem["errorType"]
        return
    said = json.loads(raw)
    places = [one["index"] for one in said["successful"] + said["failed"]]
    assert sorted(places) == list(range(len(places))), said
