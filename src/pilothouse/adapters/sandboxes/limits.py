"""The keeper's side of limits: what this host can hold, and for each session its control group and its disk."""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes import hierarchies, meter, profile, trees
from pilothouse.adapters.sandboxes.disks import Disks
from pilothouse.adapters.sandboxes.layout import Layout, next_uid
from pilothouse.core import limits
from pilothouse.core.errors import BadRequest
from pilothouse.core.limits import KINDS, Caps


def caps(message: dict[str, Any]) -> Caps:
    """From a request. Raises BadRequest."""
    asked = message.get("limits", {})
    if not isinstance(asked, dict):
        raise BadRequest("limits: expected an object")
    return Caps().changed(limits.check(asked))


class Limits:
    def __init__(self, layout: Layout, mounts: Path | None, alive: Callable[[str], bool]) -> None:
        """`mounts`: see disks. `alive`: whether a session has a holder."""
        self._layout = layout
        self._alive = alive
        self._groups = hierarchies.found(layout.home, layout.runtime / "cgroups", Caps())
        self._disks = Disks(layout, mounts)

    @property
    def said(self) -> dict[str, Any]:
        """For `status`: what holds each limit, and what is missing."""
        held, image = self._groups.held, not self._disks.missing
        how = {name: meter.enforced(name, held, image=image, sandbox="bubblewrap") for name in KINDS}
        return {"enforced": how, "lacks": [*hierarchies.mend(self._groups), *self._diskless()]}

    def _diskless(self) -> tuple[str, ...]:
        if not self._disks.missing:
            return ()
        return (
            f"Sessions have no disk of their own ({self._disks.missing}): their files are counted every few seconds, "
            "and what runs is ended when they are too large; their number is not limited.",
        )

    # --- one session

    def workspace_ready(self, session: str) -> Path:
        """The directory that has the session's `workspace` and `home`, also of one that does not run.

        Raises OSError."""
        return self._disks.ready(session, time.monotonic())

    def make(self, session: str, found: Caps, *, image: bool) -> int:
        """Its directories, made if they are new; the uid whose they are. Raises OSError."""
        if image and not self._disks.missing and not self._layout.session(session).exists():
            self._disks.new(session, found)
        self._disks.mend(session)
        where = self.workspace_ready(session)
        if os.geteuid() != 0:
            trees.make(where, None)
            return os.geteuid()
        try:
            uid = (where / "home").lstat().st_uid  # root's: whoever made it came to no end
        except FileNotFoundError:
            uid = 0
        uid = uid or next_uid(self._layout)
        trees.make(where, uid)
        return uid

    def bounds(self, session: str, found: Caps, place: profile.Place, directory: str | None) -> meter.Bounds:
        """Close its leaf after the fork. Raises OSError."""
        image = self._disks.has(session)
        counted = () if image else (place.home,) if directory else (place.home, place.workspace)
        return meter.Bounds(found, self._groups.leaf(session, found), image, counted)

    def place(self, session: str, staged: profile.Place, directory: str | None) -> profile.Place:
        """`staged` as it is without a disk."""
        if not self._disks.has(session):
            return staged
        where = self.workspace_ready(session)
        return replace(staged, home=str(where / "home"), workspace=directory or str(where / "workspace"))

    def over(self, session: str) -> None:
        """Its sandbox has ended."""
        self._groups.over(session)

    def drop(self, session: str) -> None:
        """Before its files are removed."""
        self._disks.drop(session)

    # --- all of them

    def adopt(self, holder: socket.socket) -> None:
        """A connection to a holder that was there before."""
        form = "iII"
        pid, _, _ = struct.unpack(form, holder.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize(form)))
        self._disks.adopt(pid)

    def sweep(self) -> None:
        """Once, when the holders of a keeper before this one are known."""
        self._groups.sweep(self._alive)

    def tend(self, now: float) -> None:
        self._groups.tend(now)
        self._disks.tend(now, self._alive)

    def pause(self, most: float) -> float:
        return self._groups.pause(most)

    def leave(self) -> None:
        self._groups.leave()
