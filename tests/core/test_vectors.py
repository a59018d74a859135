"""The examples that both languages read: what the page takes, the server takes, and the same for refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilothouse.core import chat, events

VECTORS = Path(__file__).parents[2] / "protocol" / "vectors"
EVENTS: dict[str, list[dict[str, Any]]] = json.loads((VECTORS / "events.json").read_text())
CONVERSATIONS: list[dict[str, Any]] = json.loads((VECTORS / "conversations.json").read_text())["conversations"]


def named(vectors: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(one, id=one["name"]) for one in vectors]


@pytest.mark.parametrize("vector", named(EVENTS["valid"]))
def test_a_valid_event_is_read_and_comes_back_the_same(vector: dict[str, Any]) -> None:
    event = events.decode(json.dumps(vector["event"]))
    written = json.loads(events.encode(event))
    # Defaults may be left out of what is written; nothing else may differ.
    assert events.decode(json.dumps({**vector["event"], **written})) == event
    assert written.keys() <= vector["event"].keys()


@pytest.mark.parametrize("vector", named(EVENTS["invalid"]))
def test_an_invalid_event_is_refused_by_name(vector: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError, match=vector["field"]):
        events.decode(json.dumps(vector["event"]))


def test_there_is_an_example_of_every_type() -> None:
    tags = {kind.__struct_config__.tag for kind in events.LogEvent.__args__}
    assert {one["event"]["type"] for one in EVENTS["valid"]} == tags


@pytest.mark.parametrize("vector", named(CONVERSATIONS))
def test_every_frame_of_a_conversation_is_one_of_ours(vector: dict[str, Any]) -> None:
    for frame in vector["server"]:
        if frame["type"] != "telepathy":
            assert chat.parse_server(json.dumps(frame)) is not None, frame
