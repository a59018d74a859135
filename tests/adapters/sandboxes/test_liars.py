"""A session's holder that says what cannot be: whoever asks for that session hears so, and all others are found."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes.kept import KeptSandboxes
from pilothouse.adapters.sandboxes.layout import Layout
from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import SessionId

HONEST = SessionId("8f14e45f-ceea-467f-a9d5-0123456789ab")
LIAR = SessionId("8f14e45f-ceea-467f-a9d5-0123456789ac")
STATE = {"ok": True, "alive": True, "runner": True, "runnerStarted": 1, "shells": 2}


@pytest.mark.parametrize("lie", [{"shells": "many"}, {"shells": float("inf")}, {"runnerStarted": []}, {"place": 7}])
async def test_nonsense_of_one_holder_does_not_hide_the_others(base: Path, lie: dict[str, object]) -> None:
    layout, kept = Layout(base / "h", base / "r"), KeptSandboxes(base / "h", base / "r", ())
    layout.runtime.mkdir()

    def holder(says: dict[str, object]) -> object:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while await reader.readline():
                writer.write(json.dumps(says).encode() + b"\n")
            writer.close()

        return serve

    servers = [
        await asyncio.start_unix_server(holder(STATE), layout.control(HONEST)),  # type: ignore[arg-type]
        await asyncio.start_unix_server(holder({**STATE, **lie}), layout.control(LIAR)),  # type: ignore[arg-type]
    ]
    try:
        with pytest.raises(Unavailable, match="cannot be"):
            await kept.state(LIAR)
        found = {state.session: state for state in await kept.list()}
        assert (found[HONEST].alive, found[HONEST].shells) == (True, 2)
        assert (found[LIAR].alive, found[LIAR].shells) == (False, 0)
    finally:
        for server in servers:
            server.close()
        await kept.close()
