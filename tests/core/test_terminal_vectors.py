"""The frames of a shell that both languages read: the page reads what the server writes, and the other way round."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pilothouse.core import control, frames
from pilothouse.core.audience import Viewer, ViewerId
from pilothouse.core.shell import Exit, ShellId, Size

VECTORS: dict[str, list[dict[str, Any]]] = json.loads(
    (Path(__file__).parents[2] / "protocol" / "vectors" / "terminal.json").read_text()
)


def named(side: str) -> list[Any]:
    return [pytest.param(one, id=one["name"]) for one in VECTORS[side]]


def written(frame: dict[str, Any]) -> bytes:
    match frame["is"]:
        case "output":
            return frames.stdout(bytes.fromhex(frame["data"]))
        case "note":
            return frames.stderr(frame["text"])
        case "attached":
            at = dict(frame["at"])
            again, dropped = at.pop("reconnected"), at.pop("bytesDropped", 0)
            return frames.attached(ShellId(at.pop("shellId")), reconnected=again, dropped=dropped, **at)
        case "ended":
            signal = frame["exit"].get("signal", 0)
            return frames.ended(Exit(0, signal) if signal else Exit(frame["exit"]["code"]))
        case "failed":
            return frames.failed(frame["message"])
        case "beat":
            return frames.heartbeat(bytes.fromhex(frame["payload"]))
        case "said":
            return said(frame["said"])
        case "close":
            return frames.CLOSING
    raise AssertionError(frame)


def said(frame: dict[str, Any]) -> bytes:
    match frame["type"]:
        case "presence":
            return control.presence(frame["you"], tuple(viewer(one) for one in frame["viewers"]))
        case "size":
            return control.sized(Size(frame["width"], frame["height"]))
        case "typed":
            return control.typed(frame["offset"])
        case "refused":
            return control.refused(frame["what"], frame["message"])
    raise AssertionError(frame)


def viewer(shown: dict[str, Any]) -> Viewer:
    size = Size(shown["size"]["width"], shown["size"]["height"]) if "size" in shown else None
    return Viewer(ViewerId(shown["id"]), shown["name"], shown["role"], shown["mayType"], size=size)


@pytest.mark.parametrize("vector", named("fromServer"))
def test_the_server_writes_what_the_page_reads(vector: dict[str, Any]) -> None:
    assert written(vector["frame"]) == bytes.fromhex(vector["hex"])


@pytest.mark.parametrize("vector", named("fromViewer"))
def test_the_server_reads_what_the_page_writes(vector: dict[str, Any]) -> None:
    found = frames.decode(bytes.fromhex(vector["hex"]), control=True)
    ((kind, meant),) = vector["frame"].items()
    if isinstance(found, frames.Control):
        asked = control.decode(found.payload)
        assert (kind, msgspec.to_builtins(asked)) == ("control", meant)
    elif isinstance(found, frames.Resize):
        assert (kind, found.size) == ("resize", Size(meant["width"], meant["height"]))
    elif isinstance(found, frames.Stdin):
        assert (kind, found.hex()) == ("stdin", meant)
    else:
        assert isinstance(found, frames.Heartbeat)
        assert (kind, found.payload.hex()) == ("heartbeat", meant)
