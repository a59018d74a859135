"""What the server remembers of a session's sandbox: where its workspace came from. `<home>/sources/<uuid>.json`.

The session's own directories belong to the keeper and the session; this one belongs to the server.
"""

from __future__ import annotations

import json
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
        fresh = path.with_suffix(".new")
        try:
            path.parent.mkdir(mode=0o700, exist_ok=True)
            fresh.write_text(json.dumps({"git": source.git, "dir": source.dir}))
            fresh.chmod(0o600)
            fresh.replace(path)
        except OSError as error:
            raise Unavailable(f"The session cannot be noted down: {error.strerror}.") from error

    def remove(self, session: SessionId) -> None:
        self._layout.source(session).unlink(missing_ok=True)


def _source(noted: Any) -> Source:
    if not isinstance(noted, dict):
        return Source()
    git, where = noted.get("git"), noted.get("dir")
    return Source(git=git if isinstance(git, str) else None, dir=where if isinstance(where, str) else None)
