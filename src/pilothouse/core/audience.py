"""Who looks at one shell, who types, and how large it is: a table without I/O. Every verb returns what follows from it.

    verb              who may                                  what follows
    join              anybody let in                           as asked, but `type` only if the viewer may
    role watch        the viewer                               it types no more
    role type         a viewer that may type                   it types as well
    take              a viewer that may type                   it alone types; the others that typed watch
    give to another   a viewer that types, to one that may     the other types, the giver watches
    allow             the server, when rights change         who may not type any more watches
    resize            anybody                                  counts if the viewer types
    leave             the viewer, or its connection's end

The shell is as large as the smallest screen of those who type, edge by edge. When nobody types it stays as it is: a
shell does not jump because somebody went away.

A plain client of the Shell API types and knows nothing of others: it is alone of its kind on a shell, and the newest
one takes the place of the one before (close 4000). Our own viewers share with it, and may take and give it the typing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NewType

from pilothouse.core.errors import Conflict, Forbidden, NotFound, TooMany
from pilothouse.core.shell import USUAL, Size

ViewerId = NewType("ViewerId", str)
"""Made by the server, one per connection."""
Role = Literal["type", "watch"]

VIEWERS_MAX = 50
"""Of one shell: each may hold back some hundred KiB of output."""


@dataclass(frozen=True, slots=True)
class Viewer:
    id: ViewerId
    name: str
    """Who it is, for the others to see."""
    role: Role = "watch"
    may_type: bool = False
    plain: bool = False
    """A client of the Shell API, which knows nothing of others."""
    size: Size | None = None
    guest: bool = False
    """Came by a share link, from anywhere: is told no addresses."""


def shown(name: str, *, guest: bool) -> str:
    """A viewer's name, as another is told it. Some issuers know nobody by more than a mail address."""
    return (name.partition("@")[0] or "somebody") if guest else name


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a verb changed."""

    kicked: tuple[ViewerId, ...] = ()
    """Their place is taken: close 4000."""
    roles: tuple[Viewer, ...] = ()
    """Those who now have another role."""
    size: Size | None = None
    """The shell's new size, if it has one."""
    seen: bool = False
    """Who is there, or who types, has changed: the others want to know."""


class Audience:
    __slots__ = ("_viewers", "size")

    def __init__(self, size: Size = USUAL) -> None:
        self.size = size
        self._viewers: dict[ViewerId, Viewer] = {}

    def __len__(self) -> int:
        return len(self._viewers)

    def __contains__(self, id: ViewerId) -> bool:
        return id in self._viewers

    @property
    def viewers(self) -> tuple[Viewer, ...]:
        """In the order in which they came."""
        return tuple(self._viewers.values())

    @property
    def typed_in(self) -> bool:
        """Whether anybody types."""
        return any(viewer.role == "type" for viewer in self._viewers.values())

    def types(self, id: ViewerId) -> bool:
        viewer = self._viewers.get(id)
        return viewer is not None and viewer.role == "type"

    def join(self, viewer: Viewer) -> Outcome:
        """Raises TooMany, Conflict."""
        if viewer.id in self._viewers:
            raise Conflict("viewer: it is here already")
        kicked = tuple(v.id for v in self._viewers.values() if v.plain) if viewer.plain else ()
        if len(self._viewers) - len(kicked) >= VIEWERS_MAX:
            raise TooMany(f"a shell has at most {VIEWERS_MAX} viewers")
        for id in kicked:
            del self._viewers[id]
        if viewer.role == "type" and not viewer.may_type:
            viewer = replace(viewer, role="watch")
        self._viewers[viewer.id] = viewer
        return self._done(kicked=kicked, seen=True)

    def leave(self, id: ViewerId) -> Outcome:
        """Harmless for one that has gone."""
        if self._viewers.pop(id, None) is None:
            return Outcome()
        return self._done(seen=True)

    def resize(self, id: ViewerId, size: Size) -> Outcome:
        self._viewers[id] = replace(self._known(id), size=size)
        return self._done()

    def role(self, id: ViewerId, role: Role) -> Outcome:
        """Raises Forbidden."""
        return self._become({self._able(id, role).id: role})

    def allow(self, id: ViewerId, may_type: bool) -> Outcome:
        """Whether it may type from now on; harmless for one that has gone."""
        viewer = self._viewers.get(id)
        if viewer is None or viewer.may_type == may_type:
            return Outcome()
        role: Role = viewer.role if may_type else "watch"
        self._viewers[id] = replace(viewer, may_type=may_type, role=role)
        return self._done(roles=(self._viewers[id],) if role != viewer.role else (), seen=True)

    def take(self, id: ViewerId) -> Outcome:
        """Raises Forbidden."""
        self._able(id, "type")
        return self._become({v.id: "type" if v.id == id else "watch" for v in self._viewers.values()})

    def give(self, id: ViewerId, other: ViewerId) -> Outcome:
        """Raises Forbidden, NotFound."""
        if not self.types(id):
            raise Forbidden("give: only who types can give it away")
        if other == id:
            return Outcome()
        self._able(other, "type")
        return self._become({id: "watch", other: "type"})

    def _known(self, id: ViewerId) -> Viewer:
        viewer = self._viewers.get(id)
        if viewer is None:
            raise NotFound("viewer: there is no such viewer of this shell")
        return viewer

    def _able(self, id: ViewerId, role: Role) -> Viewer:
        viewer = self._known(id)
        if role == "type" and not viewer.may_type:
            raise Forbidden("type: this viewer may only watch")
        return viewer

    def _become(self, wanted: dict[ViewerId, Role]) -> Outcome:
        changed = []
        for id, role in wanted.items():
            if self._viewers[id].role != role:
                self._viewers[id] = replace(self._viewers[id], role=role)
                changed.append(self._viewers[id])
        return self._done(roles=tuple(changed), seen=bool(changed))

    def _done(
        self, *, kicked: tuple[ViewerId, ...] = (), roles: tuple[Viewer, ...] = (), seen: bool = False
    ) -> Outcome:
        before = self.size
        sizes = [v.size for v in self._viewers.values() if v.role == "type" and v.size is not None]
        if sizes:
            self.size = Size(min(s.cols for s in sizes), min(s.rows for s in sizes))
        return Outcome(kicked, roles, self.size if self.size != before else None, seen)
