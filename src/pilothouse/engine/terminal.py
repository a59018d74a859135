"""One shell and its viewers. The shell's bytes are where they are; every viewer only has a place in them.

How far the shell is read depends on those who type: at most WINDOW beyond the one who is furthest behind, so who types
and falls behind slows the shell. Who only watches slows nobody; if what it needs next is gone, it goes on near the end
and is told how much it missed. When nobody types the shell is read as it writes.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from pilothouse.core import control, frames
from pilothouse.core.audience import Audience, Outcome, Viewer, ViewerId
from pilothouse.core.errors import BadRequest
from pilothouse.core.resizes import Sizes
from pilothouse.core.shell import REPLAY, WINDOW, Size
from pilothouse.engine.shells import Shell
from pilothouse.engine.turns import COOL, HOT, SLICE, Turns
from pilothouse.engine.viewing import TYPED_STEP, WATCHES, Sink, Viewing

GRANT_STEP = 128 * 1024
"""A shell is not told for less how far it may be read: a message for every keystroke would be two for every echo."""
RETURN_S = 60.0
"""So long a shell that was typed in waits for its viewer to find this server."""
FIRST_S = 10.0
"""So long a new shell waits for its first viewer, once it has written WINDOW: of a command all shall be seen."""
LOOK_S = 0.005
"""Between two looks at how much of its output is still on its way to who types."""
_ENDED = "the session has ended"
REDRAW_S = 0.05
"""Between the two sizes that make a program draw its screen anew: it has noticed the first by then."""


class Terminal:
    __slots__ = (
        "_audience",
        "_frames",
        "_going",
        "_granted",
        "_head",
        "_heat",
        "_looking",
        "_new",
        "_news",
        "_over",
        "_typed_in",
        "_viewings",
        "_waiting",
        "active_at",
        "ahead",
        "closing",
        "gone",
        "shell",
        "sizes",
        "turns",
    )

    def __init__(
        self, shell: Shell, turns: Turns, ahead: int, over: Callable[[Terminal], None], *, new: bool = False
    ) -> None:
        """`over`: is called when the shell has ended and every viewer has been told."""
        self.shell = shell
        self.turns = turns
        self.ahead = ahead
        self.active_at = turns.now
        """When something was last written or typed, or somebody was there."""
        self._over = over
        self._audience = Audience(shell.size)
        self.sizes = Sizes(shell.size, shell.resized)
        self._viewings: dict[ViewerId, Viewing] = {}
        self._granted = shell.head
        self._typed_in = False
        self._heat = 0.0
        """Bytes that came lately."""
        self._head = shell.head
        self.closing = False
        """It is to end, and nobody wants to know how."""
        self.gone = False
        """It is forgotten: nobody can look at it any more."""
        self._going: asyncio.Event | None = None
        self._frames: dict[int, bytes] = {}
        self._news: asyncio.Event | None = None
        shell.listen(self._changed)
        self._looking: asyncio.TimerHandle | None = None
        self._waiting: asyncio.TimerHandle | None = None
        """For somebody who types; until then it is not read on."""
        self._new = new
        if new or shell.typed_in:
            self._wait(FIRST_S if new else RETURN_S)
        if new or not shell.typed_in:
            self._read_on(self.shell.head + WINDOW, typed_in=new)

    @property
    def viewers(self) -> tuple[Viewer, ...]:
        return self._audience.viewers

    # --- coming and going

    def attach(self, viewer: Viewer, sink: Sink, typist: int, *, new: bool, after: int | None) -> Viewing:
        """Raises BadRequest (after), TooMany, Conflict."""
        head = self.shell.head
        if after is not None and after > head:
            raise BadRequest(f"after: this shell has written {head} bytes only")
        outcome = self._audience.join(viewer)
        for id in outcome.kicked:
            self._viewings.pop(id).end(frames.TAKEN, "another connection took this shell")
        viewing = self._viewings[viewer.id] = Viewing(self, viewer, sink, typist)
        asked, start = self._start(viewer, after)
        dropped = max(0, start - asked) if start is not None and (viewer.plain or after is not None) else 0
        # Of what a new shell asked while it waited for somebody who types, nobody else has been asked.
        unasked = self._new and self._waiting is not None and self._audience.types(viewer.id)
        viewing.place(asked, start, dropped, again=not new, live=start if unasked else head)
        self._follow(outcome)
        self._grant(at_least=0)
        if start and after != start and self._audience.types(viewer.id):
            self._redraw()
        self.wake()
        self.active_at = self.turns.now
        return viewing

    def _start(self, viewer: Viewer, after: int | None) -> tuple[int, int | None]:
        """What it wants to have first, and what it gets first."""
        shell = self.shell
        if after is not None and after >= shell.oldest:
            return after, after
        if viewer.plain:
            return shell.seen, shell.seam(max(shell.oldest, shell.head - REPLAY))
        return after or 0, shell.seam(shell.oldest)

    def left(self, viewing: Viewing) -> None:
        if self._viewings.get(viewing.id) is viewing:
            del self._viewings[viewing.id]
            self.active_at = self.turns.now
            self._follow(self._audience.leave(viewing.id))
            self._grant(at_least=0)
            self._end()

    def go_away(self, code: int, reason: str) -> None:
        """All viewers are let go; the shell goes on."""
        for viewing in list(self._viewings.values()):
            viewing.end(code, reason)
            self.left(viewing)

    def send_away(self, viewing: Viewing) -> None:
        """The server goes. Who typed comes back to the next one: until then no more is read than is kept for it, by
        this one or, which is not told that nobody types, by whoever holds the shell."""
        if viewing.over:
            return
        if viewing.types:
            self._new = False
            self._wait(RETURN_S)
        viewing.end(frames.AWAY, "the server restarts")
        self.left(viewing)

    def send_all_away(self) -> None:
        for viewing in list(self._viewings.values()):
            self.send_away(viewing)

    def session_ended(self) -> None:
        """Likewise, and there is nothing to come back to. A plain client that came back would begin the session anew,
        which somebody has stopped: it is told in its own words that the server ended the shell."""
        for viewing in [v for v in self._viewings.values() if v.plain]:
            viewing.end(frames.NORMAL, _ENDED, frames.CLOSING)
            self.left(viewing)
        self.go_away(frames.AWAY, _ENDED)

    # --- what viewers ask for

    def resize(self, viewing: Viewing, size: Size) -> None:
        self._follow(self._audience.resize(viewing.id, size))

    def ask(self, viewing: Viewing, asked: control.Asked) -> None:
        """Raises Forbidden, NotFound."""
        if isinstance(asked, control.Become):
            outcome = self._audience.role(viewing.id, asked.role)
        elif isinstance(asked, control.Take):
            outcome = self._audience.take(viewing.id)
        elif isinstance(asked, control.Give):
            outcome = self._audience.give(viewing.id, ViewerId(asked.to))
        else:
            return
        self._follow(outcome)
        self._grant(at_least=0)

    def close(self, viewing: Viewing) -> None:
        """The viewer wants the shell to end, for good. A plain client may whoever types: it goes as soon as it has said
        so, and leaves a shell behind that it takes for ended."""
        if not viewing.types and not viewing.plain:
            viewing.refuse("typing", WATCHES)
            return
        self.closing = True
        viewing.end(frames.NORMAL, "closed", frames.CLOSING)
        self.left(viewing)
        self.hang_up()

    def allow(self, viewing: Viewing, may_type: bool) -> None:
        """What the viewer may has changed."""
        self._follow(self._audience.allow(viewing.id, may_type))
        self._grant(at_least=0)

    def hang_up(self) -> None:
        """A shell that does not listen is killed after a while."""
        if self.shell.ended is None:
            self.wait_no_more()
            self.shell.signal(signal.SIGHUP)

    def forgotten(self) -> None:
        """It is gone."""
        self.gone = True
        if self._going is not None:
            self._going.set()

    async def going(self) -> None:
        """Until it is gone."""
        if not self.gone:
            self._going = self._going or asyncio.Event()
            await self._going.wait()

    def _follow(self, outcome: Outcome) -> None:
        if outcome.size is not None:
            self.shell.resize(outcome.size)
            self.sizes.note(self.shell.head, outcome.size)
            self.sizes.forget(self.shell.oldest)
        for viewing in self._viewings.values():  # before anybody is told of it
            viewing.types = self._audience.types(viewing.id)
        for viewing in list(self._viewings.values()):
            viewing.tell_size()
            if outcome.seen:
                viewing.tell(control.presence(viewing.id, self._audience.viewers, guest=viewing.guest))

    def _redraw(self) -> None:
        """The viewer has only the end of what was written: a program that fills the screen shall draw it anew."""
        size = self._audience.size
        self.shell.resize(Size(size.cols, size.rows - 1 if size.rows > 1 else 2))
        asyncio.get_running_loop().call_later(REDRAW_S, self._drawn)

    def _drawn(self) -> None:
        self.shell.resize(self._audience.size)

    # --- the output

    def frame(self, offset: int, limit: int) -> bytes:
        """A STDOUT frame from there on; made once for all viewers who stand there. Raises Gone."""
        limit = min(limit, frames.CHUNK)
        if len(self._viewings) == 1:
            return self.shell.read(offset, limit, b"\x01")
        found = self._frames.get(offset)
        if found is None:
            found = self._frames[offset] = self.shell.read(offset, limit, b"\x01")
        return found

    def wake(self) -> None:
        """A viewer can take more."""
        self.turns.add(self)

    def arrived(self) -> None:
        """A viewer has more than it was known to have."""
        self._grant(at_least=GRANT_STEP)

    async def news(self) -> None:
        """Until the shell has said something."""
        if self._news is None:
            self._news = asyncio.Event()
        await self._news.wait()

    def turn(self, limit: int) -> bool:
        more = False
        for viewing in tuple(self._viewings.values()):
            more = viewing.push(limit) or more
        self._frames.clear()
        if self.shell.head + WINDOW - self._granted > GRANT_STEP:  # who types is behind, or there
            self._grant(at_least=GRANT_STEP)
        if self.shell.ended is not None:
            self._end()
        return more

    def _changed(self) -> None:
        now = self.turns.clock()
        self._heat = max(0.0, self._heat - (now - self.active_at) * COOL)
        self.active_at = now
        if self._news is not None:
            self._news.set()
            self._news = None
        head = self.shell.head
        self._heat += head - self._head
        self._head = head
        if self._heat > HOT or self.turn(SLICE):
            self.turns.add(self)
        for viewing in list(self._viewings.values()):  # the echo is on its way
            viewing.tell_typed(TYPED_STEP)

    def _grant(self, *, at_least: int) -> None:
        """How far the shell may be read."""
        typed_in, upto = False, self.shell.head + WINDOW
        for viewing in self._viewings.values():
            if self._audience.types(viewing.id):
                typed_in = True
                if viewing.cursor is not None:
                    upto = min(upto, viewing.cursor + WINDOW)
        if typed_in and self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if self._waiting is not None:
            return
        other = typed_in != self._typed_in
        if other or upto - self._granted > at_least:
            upto = self._kept(upto)
            if other or upto - self._granted > at_least:
                self._read_on(upto, typed_in=typed_in)

    def _kept(self, upto: int) -> int:
        """What a kill would lose on its way to who types must be kept: as far as that allows."""
        reached = min(
            (v.reached for v in self._viewings.values() if v.cursor is not None and self._audience.types(v.id)),
            default=upto,
        )
        if reached + self.shell.capacity < upto:
            upto = reached + self.shell.capacity
            self._look()
        return upto

    def _look(self) -> None:
        """Whether it has arrived, of which nobody is told."""
        if self._looking is None and self.shell.ended is None:
            self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._looked)

    def _looked(self) -> None:
        self._looking = None
        self._grant(at_least=0)

    def _read_on(self, upto: int, *, typed_in: bool) -> None:
        self._typed_in, self._granted = typed_in, max(upto, self._granted)
        self.shell.grant(self._granted, typed_in=typed_in)

    def _wait(self, seconds: float) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
        self._waiting = asyncio.get_running_loop().call_later(seconds, self.wait_no_more)

    def wait_no_more(self) -> None:
        """Whoever was waited for does not come."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
            self._grant(at_least=-1)

    def _end(self) -> None:
        """Who has seen everything of a shell that has ended is told how, and goes."""
        ended = self.shell.ended
        if ended is None:
            return
        told = self.closing or bool(self._viewings)
        for viewing in [v for v in self._viewings.values() if v.done()]:
            del self._viewings[viewing.id]
            self._audience.leave(viewing.id)
            viewing.end(frames.NORMAL, "", frames.ended(ended))
        if told and not self._viewings:
            self._over(self)
