"""The event API."""

from __future__ import annotations

from pilothouse.core.api import channels
from pilothouse.core.publish import Taken
from pilothouse.web.operations import examples as ex
from pilothouse.web.operations.base import AFTER, Operation, Parameter, Said, text, whole

GROUP = "Event API"
CHANNEL = Parameter("channel", text(), "Which channel.", required=True, example="default/room")
REQUEST = {"x-amzn-RequestId": "The request's own name."}
ALLOWED = Said(
    "What it may send.",
    headers={"Access-Control-Allow-Methods": "The methods.", "Access-Control-Allow-Headers": "The headers."},
)
SEE = "As AWS AppSync Events has it; see `protocol/events.md`."


def _preflight(path: str) -> Operation:
    return Operation(
        "OPTIONS", path, GROUP, "What a page of another origin may send", {204: ALLOWED},
        "For the origins that are configured.", appsync=True, refuses={403: "Another origin."},
    )  # fmt: skip


OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "POST", "/event", GROUP, "Publish to a channel",
        {200: Said(
            "Which events were taken.", channels.Published,
            channels.Published(failed=[], successful=[Taken(identifier="019ab5c2-9ea6-7c5b", index=0)]),
            headers=REQUEST,
        )},
        SEE, body=channels.Publish,
        query=(Parameter("Idempotency-Key", text(minLength=1, maxLength=128), "As `key`.", "header"),),
        example=channels.Publish(channel="default/room", events=['{"text":"hello"}']), appsync=True,
        refuses={409: "The same key for another request.", 413: "The body."},
    ),
    Operation(
        "GET", "/event/history", GROUP, "What was published to a channel that keeps it",
        {200: Said("Events after a cursor.", channels.History, channels.History(
            epoch="4f1c9a0b7d2e", oldest=1, head=2, gap=False,
            events=[channels.KeptEvent(event='{"text":"hello"}', at=ex.AT, seq=2)],
        ), headers=REQUEST)},
        SEE, appsync=True,
        query=(CHANNEL, AFTER, Parameter("limit", whole(1, 1000, 100), "At most so many."),
               Parameter("epoch", text(), "Of which history `after` is.")),
    ),
    Operation(
        "GET", "/event/presence", GROUP, "Who subscribes to a channel",
        {200: Said("Some of them, and how many there are.", channels.Presence,
                   channels.Presence(present=["ann"], count=1), headers=REQUEST)},
        SEE, appsync=True, query=(CHANNEL,),
    ),
    *map(_preflight, ("/event", "/event/history", "/event/presence")),
    Operation("WS", "/event/realtime", GROUP, "Publish and subscribe", {}, SEE),
)  # fmt: skip
