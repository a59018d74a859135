"""One viewer's connection to a terminal: where it stands in the output, what it sends, what it is told."""

from __future__ import annotations

import asyncio
from typing import Protocol

from pilothouse.core import control, frames
from pilothouse.core.audience import Viewer, ViewerId
from pilothouse.core.errors import PilothouseError
from pilothouse.core.frames import Fault, Frame
from pilothouse.core.resizes import Sizes
from pilothouse.core.scrollback import Gone
from pilothouse.core.shell import REPLAY, Size
from pilothouse.engine.shells import Shell
from pilothouse.engine.turns import Turns

INPUT_AHEAD = 256 * 1024
"""Input that a shell has not read yet, above which a viewer's next message waits."""
STUCK_S = 30.0
"""So long a shell may read nothing of its input before the viewer who waits is let go."""
UNREAD_MAX = 2 * 1024 * 1024
"""Bytes that a viewer has not read, above which it is let go. It is sent no output long before that: these are the
answers to what it asks, and news of others."""
VIEWER_MAX = 5 * 1024 * 1024
"""What one viewer costs in memory, however slowly it reads and however much it asks: UNREAD_MAX, what a socket takes in
of its messages (1 MiB), and what the allocator adds. Who only reads slowly costs a fifth of it."""
TYPED_STEP = 4096
"""A viewer keeps what it has typed until it is told that the shell has it: not worth a frame for every key."""
NOTE_S = 0.005
"""How soon it is looked whether a plain client's machine has what it was sent; if not, again after twice as long,"""
NOTE_MAX_S = 1.0
"""at most."""
AGAIN_S = 0.01
"""When a sink says that it can take more and cannot."""
GONE = 1 << 62
"""So much is under way of a connection that is not there any more: nobody can tell what has arrived."""
WATCHES = "you watch this shell: what you type does not reach it"


class Sink(Protocol):
    """The way to a viewer: a WebSocket, or a list in a test. Sends never wait, and do nothing once it is closed."""

    def send_binary(self, data: bytes) -> None: ...

    def buffered(self) -> int:
        """Bytes that the other side has not taken yet."""
        ...

    def underway(self) -> int:
        """Bytes that the other side's machine may not have: a kill of this one would lose them. Or GONE."""
        ...

    async def writable(self) -> bool:
        """Waits while too much is buffered. False when it is closed."""
        ...

    def close(self, code: int = 1000, reason: str = "") -> None: ...


class Watched(Protocol):
    """What a viewing needs of its terminal."""

    shell: Shell
    turns: Turns
    ahead: int
    sizes: Sizes
    active_at: float

    def turn(self, limit: int) -> bool: ...
    def frame(self, offset: int, limit: int) -> bytes: ...
    def wake(self) -> None: ...
    def arrived(self) -> None: ...
    async def news(self) -> None: ...
    def resize(self, viewing: Viewing, size: Size) -> None: ...
    def ask(self, viewing: Viewing, asked: control.Asked) -> None: ...
    def close(self, viewing: Viewing) -> None: ...
    def left(self, viewing: Viewing) -> None: ...


class Viewing:
    """Made by `Terminals.attach`. The door hands every message to `receive` and calls `leave` at the end."""

    __slots__ = (
        "_clock",
        "_incoming",
        "_noted",
        "_noting",
        "_pace",
        "_paused",
        "_resting",
        "_seen",
        "_shell",
        "_sink",
        "_sized",
        "_told",
        "_typed",
        "_typist",
        "_waiting",
        "_wants",
        "cursor",
        "guest",
        "id",
        "over",
        "plain",
        "terminal",
        "types",
    )

    def __init__(self, terminal: Watched, viewer: Viewer, sink: Sink, typist: int) -> None:
        self.terminal = terminal
        self._shell = terminal.shell
        self._clock = terminal.turns.clock
        self.id: ViewerId = viewer.id
        self.plain = viewer.plain
        self.guest = viewer.guest
        self.cursor: int | None = None
        """The next byte to send. None: at the next seam, none of which is known yet."""
        self.over = False
        """It has left, or was told to."""
        self.types = False
        """What it types reaches the shell: the terminal says so."""
        self._sink = sink
        self._typist = typist
        self._typed = terminal.shell.typed(typist)
        self._told = self._typed
        self._seen: int | None = None
        """Of the output, what it says that it has; None: it says nothing of it."""
        self._wants = 0
        """What it has not been sent begins here, while the cursor is None."""
        self._incoming = frames.Incoming(control=not viewer.plain)
        self._sized: Size | None = None
        """The size that it was last told."""
        self._paused = False
        self._waiting: asyncio.Task[None] | None = None
        self._pace = frames.Pace() if viewer.plain else None
        self._noted = 0
        """Up to here it has the output, as far as the shell was told; or it was told of what it has not."""
        self._noting: asyncio.TimerHandle | None = None
        self._resting = False

    # --- the door's side

    async def receive(self, message: bytes, text: bool = False) -> None:
        """One message of the viewer's. What it may not send is answered, or ends the connection. Returns when the next
        one may come."""
        if not self.take(message, text):
            await self.room()

    def take(self, message: bytes, text: bool = False) -> bool:
        """The same without waiting: whether the next message may come, or must wait for `room`."""
        if self.over:
            return True
        now = self._clock()
        found = self._incoming.take(message, now, text)
        if not isinstance(found, frames.Stdin):
            self._frame(found)
            return True
        if not self.types:
            self.refuse("typing", WATCHES)
        elif found:
            backlog = self._shell.write(self._typist, self._typed, found)
            self._typed += len(found)
            self.terminal.active_at = now
            self.terminal.turns.typed(self.terminal, now)
            return backlog <= INPUT_AHEAD
        return self._shell.backlog <= INPUT_AHEAD

    async def room(self) -> None:
        """Waits until the shell has read some of its input; a viewer whose shell reads nothing is let go."""
        shell, backlog = self._shell, self._shell.backlog
        while shell.backlog > INPUT_AHEAD and not self.over and shell.ended is None:
            try:
                async with asyncio.timeout(STUCK_S):
                    await self.terminal.news()
            except TimeoutError:
                if shell.backlog >= backlog:
                    self.end(frames.POLICY, "the shell does not read its input")
                    self.terminal.left(self)
            backlog = shell.backlog

    def leave(self) -> None:
        """Its connection has ended. The shell goes on."""
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None
        if not self.over:
            self._note()
            self.over = True
            self.terminal.left(self)

    # --- the terminal's side

    def place(self, asked: int, start: int | None, dropped: int, *, again: bool, live: int | None) -> None:
        """From where on it is sent the output, and what it is told before. `asked`: what it wants to be sent first,
        should no place be known yet where it can begin: it is told of that one when it comes. `live`: where what it is
        sent is a replay no more."""
        self.cursor, self._wants = start, asked
        if start is not None:
            self._status(start, dropped, again=again, live=live)
        else:
            self._sink.send_binary(frames.attached(self._shell.id, reconnected=again))

    def tell(self, frame: bytes) -> None:
        """Something beside the output; a plain client knows none of it."""
        if not self.plain:
            self._say(frame)

    def refuse(self, what: str, message: str) -> None:
        self._say(frames.stderr(message) if self.plain else control.refused(what, message))

    def push(self, limit: int) -> bool:
        """Sends about `limit` bytes; whether there is more that it could take now."""
        if self._paused or self._resting or self._waiting is not None or (self.cursor is None and not self._placed()):
            return False
        shell, sink, ahead, sizes = self._shell, self._sink, self.terminal.ahead, self.terminal.sizes
        cursor, head = self.cursor or 0, shell.head
        end = min(head, cursor + limit)
        try:
            while cursor < end:
                if sink.buffered() > ahead:
                    self._wait()
                    break
                if self._pace and (rest := self._pace.wait(self._clock())):
                    self._rest(rest)
                    break
                settled = cursor >= sizes.since and sizes.latest is self._sized
                until = None if settled else self._size(cursor)
                frame = self.terminal.frame(cursor, limit if until is None else min(limit, until - cursor))
                sink.send_binary(frame)
                cursor += len(frame) - 1
        except Gone:
            self.cursor = cursor
            self._fallen_behind()
            return True
        self.cursor = cursor
        if cursor < sizes.since or sizes.latest is not self._sized:
            self.tell_size()
        if self.plain:
            self._note()
        return cursor < head and self._waiting is None and not self._resting

    def tell_size(self) -> None:
        """The shell's size where it stands, unless it was told."""
        if self.cursor is not None:
            self._size(self.cursor)

    def _size(self, at: int) -> int | None:
        """Where the next one begins."""
        size, until = self.terminal.sizes.at(at)
        if size is not self._sized and size != self._sized:
            self._sized = size
            self.tell(control.sized(size))
        return until

    @property
    def reached(self) -> int:
        """Everything before it the viewer has, whatever happens to this machine. Of one that does not say what it has:
        its machine, where a program that hears of the end may not look for the rest."""
        return self._arrived(self._sink.underway())

    def _arrived(self, underway: int) -> int:
        """Who is gone holds nobody back."""
        sent = max(0, (self.cursor or 0) - (0 if underway >= GONE else underway))
        return sent if self._seen is None else min(sent, self._seen)

    def _note(self, again: float = NOTE_S) -> None:
        """For a plain client that comes back: of what it was sent only that is seen which has arrived. What was on its
        way when it was cut off, some MiB of a flood, it is told that it missed. `again`: when to look next."""
        if not self.plain or self.over or self.cursor is None or (underway := self._sink.underway()) >= GONE:
            return
        if (reached := self._arrived(underway)) > self._noted:
            again = NOTE_S
        if reached >= self._noted:
            self._noted = reached
            self._shell.note_seen(reached)
        if reached < self.cursor and self._noting is None:
            self._noting = asyncio.get_running_loop().call_later(again, self._note_again, min(NOTE_MAX_S, 2 * again))

    def _note_again(self, again: float) -> None:
        self._noting = None
        self._note(again)

    def tell_typed(self, at_least: int) -> None:
        """How much of its input the shell has, if so much has come since it was last told."""
        typed = self._shell.typed(self._typist)
        if typed - self._told >= at_least:
            self._told = typed
            self.tell(control.typed(typed))

    def done(self) -> bool:
        """Whether it has been sent everything there is."""
        return self.cursor is None or self.cursor >= self._shell.head

    def end(self, code: int, reason: str, *last: bytes) -> None:
        """The terminal's word that it is over."""
        if not self.over:
            self._note()
            self.over = True
            for frame in last:
                self._sink.send_binary(frame)
            self._sink.close(code, reason)

    # ---

    def _frame(self, found: Frame | Fault) -> None:
        if isinstance(found, Fault):
            self._fault(found)
        elif isinstance(found, frames.Control):
            asked = control.decode(found.payload)
            if isinstance(asked, Fault):
                self._fault(self._incoming.judge(asked))
            else:
                self._control(asked)
        elif isinstance(found, frames.Resize):
            self.terminal.resize(self, found.size)
        elif isinstance(found, frames.Heartbeat):
            self.tell_typed(1)
            self._say(frames.heartbeat(found.payload))
        elif isinstance(found, frames.Close):
            self.terminal.close(self)

    def _say(self, frame: bytes) -> None:
        """Beside the output, which waits for who is slow. An answer does not; who reads none is let go."""
        if self.over:
            return
        self._sink.send_binary(frame)
        if self._sink.buffered() > UNREAD_MAX:
            self.end(frames.POLICY, "it does not read")
            self.terminal.left(self)

    def _fault(self, fault: Frame | Fault) -> None:
        if not isinstance(fault, Fault):
            return
        if fault.fatal:
            self.end(fault.close, fault.message)
            self.terminal.left(self)
        elif fault.name != "text":
            self.refuse(fault.name, fault.message)

    def _control(self, asked: control.Asked) -> None:
        if isinstance(asked, control.Pause):
            self._paused = True
        elif isinstance(asked, control.Resume):
            self._paused = False
            self.terminal.wake()
        elif isinstance(asked, control.Seen):
            self._seen = max(self._seen or 0, asked.offset)
            self.terminal.arrived()
        else:
            try:
                self.terminal.ask(self, asked)
            except PilothouseError as error:
                self.refuse("typing", error.message)

    def _status(self, start: int, dropped: int, *, again: bool, live: int | None = None) -> None:
        shell, ours = self._shell, dict[str, int | str]()
        if not self.plain:
            ours = {"offset": start, "live": shell.head if live is None else live, "typed": self._typed}
        self._noted = start
        self._sink.send_binary(frames.attached(shell.id, reconnected=again, dropped=dropped, **ours))
        self._note()

    def _placed(self) -> bool:
        """Whether it is known by now where it goes on."""
        self.cursor = self._shell.seam(self._wants)
        if self.cursor is not None:
            self._status(self.cursor, self.cursor - self._wants, again=True)
        return self.cursor is not None

    def _fallen_behind(self) -> None:
        """What comes next for it is not kept any more: on near the end, and it is told what it misses."""
        shell, missed = self._shell, self.cursor or 0
        start = shell.seam(max(shell.oldest, shell.head - REPLAY))
        self.cursor, self._wants = start, missed
        if start is not None:
            self._status(start, start - missed, again=True)

    def _rest(self, seconds: float) -> None:
        self._resting = True
        asyncio.get_running_loop().call_later(seconds, self._rested)

    def _rested(self) -> None:
        self._resting = False
        if not self.over:
            self.terminal.wake()

    def _wait(self) -> None:
        self._waiting = asyncio.create_task(self._writable())

    async def _writable(self) -> None:
        going = await self._sink.writable()
        while going and self._sink.buffered() > self.terminal.ahead:
            await asyncio.sleep(AGAIN_S)
            going = await self._sink.writable()
        self._waiting = None
        if going:
            self.terminal.wake()
