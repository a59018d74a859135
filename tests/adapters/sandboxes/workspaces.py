"""Workspaces on disk as a keeper makes them, read through desks of a real keeper. No sandbox need run for that."""

from __future__ import annotations

import os
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from pilothouse.adapters.sandboxes import client, trees
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import Workspace
from tests.adapters.sandboxes.conftest import KEEPER, comm, processes, until

ROOT = os.geteuid() == 0
UID = 60900 if ROOT else os.geteuid()
"""Whose the workspaces are: with root a uid of their own."""


@dataclass
class House:
    base: Path
    sandboxes: Bubblewrap

    def session(self) -> tuple[SessionId, Path]:
        """A new session's name and its workspace."""
        session = SessionId(str(uuid.uuid4()))
        own = self.base / "h" / "sessions" / session
        trees.make(own, UID if ROOT else None)
        return session, own / "workspace"

    def files(self, session: SessionId) -> Workspace:
        return self.sandboxes.files(session)

    def desks(self) -> list[int]:
        """The pids of the keeper's desks: its children but for the zygote, since no sandbox runs."""
        pids = processes(str(self.base))
        return [pid for pid in pids if _parent(pid) in pids and comm(pid) != "ph-zygote"]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def hand_over(workspace: Path) -> None:
    """Everything in it belongs to the session, as if the agent had made it."""
    if ROOT:
        subprocess.run(["chown", "-hR", f"{UID}:{UID}", str(workspace)], check=True)


@asynccontextmanager
async def housed(argv: tuple[str, ...] = KEEPER, folder: str | None = None) -> AsyncIterator[House]:
    base = Path(tempfile.mkdtemp(prefix="ph-", dir=folder))
    sandboxes = await Bubblewrap.connect_keeper(base / "h", base / "r", argv=argv)
    try:
        await until(
            lambda: any(comm(pid) == "ph-zygote" for pid in processes(str(base)))
        )  # else it is taken for a desk
        yield House(base, sandboxes)
    finally:
        await sandboxes.close()
        await client.ask(base / "r" / "keeper.sock", {"verb": "stop_all"})
        await until(lambda: not processes(str(base)))
        subprocess.run(["chmod", "-R", "u+rwx", str(base)], check=False, stderr=subprocess.DEVNULL)
        subprocess.run(["rm", "-rf", str(base)], check=True)
