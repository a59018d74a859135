"""What a server does with the shells of the one before it, when it starts."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.opener import Opener
from pilothouse.engine.ports import SandboxState


async def test_sessions_that_hang_hold_the_start_up_together_and_not_one_after_another() -> None:
    names = [SessionId(f"s{n}") for n in range(20)]
    asked, all_asked, notes = list[SessionId](), asyncio.Event(), list[str]()

    class Hanging:
        def running(self, session: SessionId) -> bool:
            return False

        async def drop(self, session: SessionId) -> None: ...
        async def close(self) -> None: ...

        async def list(self, session: SessionId) -> None:
            asked.append(session)
            if len(asked) == len(names):
                all_asked.set()
            await all_asked.wait()
            raise Unavailable("the session's holder does not answer")

    async def states() -> list[SandboxState]:
        alive = [SandboxState(name, True, False, 0, shells=1) for name in names]
        return [
            *alive,
            SandboxState(SessionId("none"), True, True, 1),
            SandboxState(SessionId("dead"), False, False, 0),
        ]

    kit = SimpleNamespace(
        sandboxes=SimpleNamespace(list=states),
        clock=SimpleNamespace(sleep=lambda seconds: asyncio.Event().wait()),
        note=lambda what, **more: notes.append(what),
    )
    sessions: Any = SimpleNamespace(kit=kit, on_end=[])
    terminals: Any = Hanging()
    secrets: Any = SimpleNamespace(on_change=[])
    opener = Opener(sessions, terminals, secrets=secrets)
    await asyncio.wait_for(opener.start(), 10)
    assert sorted(asked) == sorted(names)
    assert notes == ["shells_not_found"] * len(names)
    await opener.close()
