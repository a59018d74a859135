"""What the server remembers of a session's sandbox: where its workspace came from. `<home>/sources/<uuid>.json`.

The session's own directories belong to the keeper and the session; this one belongs to the server.
"""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes.layout import Layout
from pilothouse.core.errors import Unavailable
from pilothouse.core.events import Source
from pilothouse.core.ids import SessionId


class Notes:
    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def read(self, session: SessionId) -> Source | None:
        """None: nothing has been noted, so a source is still to be fetched, and the workspace may be emptied for it."""
        for path in (self._layout.source(session), self._layout.session(session) / "source.json"):
            try:
                return _source(json.loads(path.read_bytes()))
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                return Source()  # there is one: what it was is lost, but not what is in the workspace
        return None

    def write(self, session: SessionId, source: Source) -> None:
        """Once: a session that is opened again needs no room on the disk for it. Raises Unavailable."""
        path = self._layout.source(session)
        if path.exists() and self.read(session) == source:
            return
        text = json.dumps({"git": source.git, "dir": source.dir})
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            _put(path, text)
        except OSError as error:
            raise Unavailable(f"The session cannot be noted down: {error.strerror}.") from error

    def remove(self, session: SessionId) -> None:
        self._layout.source(session).unlink(missing_ok=True)


def _put(path: Path, text: str) -> None:
    """Through no link: a tool that root runs writes here too, and the directory is the server's."""
    where = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    fresh = f"{path.stem}.new"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(fresh, dir_fd=where)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(fresh, flags, 0o600, dir_fd=where), "w") as file:
            file.write(text)
        os.rename(fresh, path.name, src_dir_fd=where, dst_dir_fd=where)
    finally:
        os.close(where)


def _source(noted: Any) -> Source:
    if not isinstance(noted, dict):
        return Source()
    git, where = noted.get("git"), noted.get("dir")
    return Source(git=git if isinstance(git, str) else None, dir=where if isinstance(where, str) else None)
