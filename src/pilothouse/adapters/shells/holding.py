"""The holder's shells: reads every PTY into memory that outlives the server, serves whichever server comes (the wire:
`core.shellwire`). Standard library only, one thread, on the holder's own selector, whose data are calls.

Mounted like this:

    holding = Holding(selector, listening_socket, allowed_uids, start, kill)
    ...                                   # each round: selector.select(min(pause, holding.pause())); holding.tick()
    start(order)                          # is called: make a PTY, start `order.argv` on its other side, then say
    holding.opened(order.id, master_fd)   #   that it runs (at once or later; the descriptor becomes ours), or
    holding.failed(order.id, message)     #   why not
    kill(id, signal_number)               # is called: for the whole process group of that shell
    holding.exited(id, Exit(...))         # when its first process has ended
    holding.close()                       # with the session
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable

from pilothouse.adapters.shells import hidden, memory, pty
from pilothouse.adapters.shells.caller import Caller
from pilothouse.adapters.shells.order import Order, checked, values
from pilothouse.adapters.shells.shell import Held
from pilothouse.core import shellwire as wire
from pilothouse.core.errors import BadRequest
from pilothouse.core.resizes import Sizes
from pilothouse.core.scrollback import Scrollback
from pilothouse.core.shell import SHELLS_MAX, Exit, ShellId, beginning, shell_id, size

KILL_S = 3.0
"""From a hang-up to a kill, for a shell that does not listen."""
LINGER_S = 0.5
"""A shell has ended, but something still has its PTY open: so long its last output is waited for."""
TYPED_S = 0.02
"""TYPED goes with the next output, or after this: an echo comes sooner, and a password has none."""
FLOOD_S = 0.005
"""For so long what follows counts as more of it."""
GATHER = 48 * 1024
"""Of a flood the server is told when so much has come, so that it is woken half as often;"""
GATHER_S = 0.001
"""or after so long."""
LEND_S = 1.0
"""So long a PTY that came back stays here: what had to wait has gone by then, as a rule."""
_EVERYTHING = 1 << 62


class Holding:
    def __init__(
        self,
        selector: selectors.BaseSelector,
        listening: socket.socket,
        allowed_uids: tuple[int, ...],
        start: Callable[[Order], None],
        kill: Callable[[ShellId, int], None],
        now: Callable[[], float] = time.monotonic,
        *,
        lends: bool = False,
        ready: Callable[[], None] = lambda: None,
    ) -> None:
        """`lends`: no program of a session has ever had a PTY's master (see `lending`). `ready`: is called when an
        order has come, before it is looked at."""
        self._selector = selector
        self._start = start
        self._kill = kill
        self._ready_to_start = ready
        self._now = now
        self._shells: dict[int, Held] = {}
        self._slot = 0
        self._orders: dict[ShellId, Order] = {}
        self._caller = Caller(
            selector,
            listening,
            allowed_uids,
            self._obey,
            self._gone,
            self._catch_up,
            lambda: any(held.loan for held in self._shells.values()),
        )
        self.outlet = self._caller.outlet
        self._lends, self._wanted = lends, False
        self._typed_at = 0.0
        self._hidden = hidden.Hidden()
        self._last: Held | None = None
        """The one that was read last."""

    # --- what the holder calls

    def opened(self, id: ShellId, master: int) -> None:
        """The shell runs; `master` is ours now."""
        order = self._orders.pop(id)
        try:
            shared = memory.fresh(id, order.scrollback)
        except OSError as error:
            os.close(master)
            self.failed(id, f"no memory for its output: {error.strerror}")
            return
        line = pty.Pty(master, Scrollback(shared.output))
        pty.resize(master, order.size)
        turn = (n % wire.SLOTS + 1 for n in range(self._slot, self._slot + wire.SLOTS))
        self._slot = next(slot for slot in turn if slot not in self._shells)
        command = beginning(order.argv) if order.command else []
        held = Held(id, self._slot, line, shared, order.size, Sizes(order.size), time.time(), command)
        held.hide(self._hidden)
        self._shells[held.slot] = held
        self._caller.tell(held.record, held.memory.fd)
        if self.outlet.sock is None:
            held.grant = _EVERYTHING
        self._lend(held)
        self._poll(held)

    def failed(self, id: ShellId, message: str) -> None:
        self._orders.pop(id, None)
        self._caller.tell(wire.say(wire.FAILED, {"id": id, "message": message[:1000]}))

    def exited(self, id: ShellId, exit: Exit) -> None:
        """Its first process has ended; its last output may still have to be read."""
        for held in self._shells.values():
            if held.id == id and held.exit is None:
                held.exit = exit
                held.kill_at = held.lend_at = 0.0
                held.end_at = self._now() + LINGER_S
                self._caller.tell(held.recall)
                self._finish(held)

    def pause(self) -> float | None:
        """When `tick` wants to be called next, in seconds from now."""
        times = [t for held in self._shells.values() for t in held.times if t]
        times += [self._typed_at] if self._typed_at else []
        return max(0.0, min(times) - self._now()) if times else None

    def tick(self) -> None:
        now = self._now()
        if self._typed_at and now >= self._typed_at:
            self._typed_at = 0.0
            for held in self._shells.values():
                if held.line.typing.touched:
                    self._caller.tell(held.typed)
        for held in self._shells.values():
            if held.say_at and now >= held.say_at:
                self._say_output(held)
            if held.lend_at and now >= held.lend_at:
                held.lend_at = now + LEND_S if held.line.typing.backlog else 0.0
                self._lend(held)
            if held.held_until and now >= held.held_until:
                held.held_until, held.grant = 0.0, _EVERYTHING
                self._poll(held)
            if held.kill_at and now >= held.kill_at:
                held.kill_at = 0.0
                self._kill(held.id, signal.SIGKILL)
            if held.loan:
                continue
            if held.release_at and now >= held.release_at and held.limit > 0:
                held.release(now)
                self._poll(held)
                self._say_output(held)
                self._finish(held)
            if held.end_at and now >= held.end_at and held.limit > 0:
                held.end_at = now + LINGER_S
                if not held.line.read(min(pty.PASS, held.room)):
                    held.line.end()
                self._finish(held)

    @property
    def held(self) -> int:
        """How many there are, ended ones among them."""
        return len(self._shells)

    @property
    def shells(self) -> int:
        """How many run."""
        return sum(not held.ended for held in self._shells.values())

    def close(self) -> None:
        """All of them; what still runs is hung up on."""
        self._caller.close()
        for slot in list(self._shells):
            self._drop(slot)

    # --- the server

    def _gone(self) -> None:
        """The server has left."""
        self._wanted = False
        for held in self._shells.values():
            held.back()
            held.lend_at = 0.0
            if held.typed_in:
                held.held_until = self._now() + wire.HOLD_S
            else:
                held.grant = _EVERYTHING
            self._resumed(held)

    def _obey(self, record: wire.Record) -> None:
        if record.kind == wire.HELLO:
            self._greet(wire.said(record.payload))
        elif not self._caller.greeted:
            raise wire.Broken("say hello first")
        elif record.kind in (wire.START, wire.HIDE):
            if record.kind == wire.START:
                self._ready_to_start()
            asked = wire.said(record.payload)
            self._order(asked) if record.kind == wire.START else self._hide(values(asked.get("hidden")))
        else:
            held = self._shells.get(record.slot)
            if held is not None:
                self._act(held, record)

    def _act(self, held: Held, record: wire.Record) -> None:
        if record.kind == wire.GRANT:
            held.grant, held.typed_in = record.offset, bool(record.flags & wire.TYPED_IN)
            held.held_until = 0.0
            self._poll(held)
        elif record.kind == wire.INPUT:
            self._type(held, record)
        elif record.kind == wire.RESIZE:
            held.resize(size(*wire.as_pair(record.payload)))
        elif record.kind == wire.SIGNAL:
            self._signal(held, record.flags)
        elif record.kind == wire.RETURN:
            self._returned(held, again=not record.flags & wire.KEEP)
        elif record.kind == wire.FORGET:
            if held.ended:
                self._drop(held.slot)
        else:
            raise wire.Broken(f"record {record.kind}")

    def _greet(self, hello: dict[str, object]) -> None:
        if hello.get("proto") != wire.PROTO:
            raise wire.Broken("protocol")
        self._caller.greeted, self._wanted = True, hello.get("lend") is True
        self._caller.tell(wire.say(wire.WELCOME, {"proto": wire.PROTO, "shells": len(self._shells), "masks": True}))
        for held in self._shells.values():
            held.greet()
            self._caller.tell(held.record, held.memory.fd)
            self._lend(held)
            self._poll(held)

    def _order(self, asked: dict[str, object]) -> None:
        id = shell_id(asked.get("id"))
        try:
            if id in self._orders or any(held.id == id for held in self._shells.values()):
                raise BadRequest("there is such a shell")
            if self.shells + len(self._orders) >= SHELLS_MAX or len(self._shells) >= 2 * SHELLS_MAX:
                raise BadRequest(f"a session has at most {SHELLS_MAX} shells")
            order = checked(id, asked)
        except BadRequest as error:
            self.failed(id, error.message)
            return
        self._orders[id] = order
        self._hide(order.values)
        self._start(order)

    def _hide(self, values: list[str]) -> None:
        if self._hidden.add(values):
            for held in self._shells.values():
                self._caller.tell(held.recall)
                held.hide(self._hidden)
                self._say_output(held)

    # --- what the server has borrowed

    def _lend(self, held: Held) -> None:
        """If it may be, and somebody wants it."""
        if not (self._lends and self._wanted and self._caller.greeted and held.lendable):
            return
        self._caller.tell(held.typed)
        with contextlib.suppress(OSError, memory.Unfit):  # then it is read here
            record, loan = held.lend()
            self._poll(held)
            self._caller.tell(record, *loan.fds)

    def _returned(self, held: Held, *, again: bool) -> None:
        if held.loan is None:
            return
        more = held.back()
        if held.exit:
            held.end_at = self._now() + LINGER_S
        elif again:
            held.lend_at = self._now() + LEND_S
        self._resumed(held)
        if more:
            self._say_output(held)

    def _resumed(self, held: Held) -> None:
        """It is read here again, and what was typed and has not gone goes from here."""
        held.hide(self._hidden)
        if held.line.typing.backlog and not held.ended:
            self._write(held)
        self._poll(held)

    # --- a shell

    def _type(self, held: Held, record: wire.Record) -> None:
        typist, data = wire.typed(record.payload)
        typing = held.line.typing
        if held.ended:
            return
        if typing.backlog + len(data) > wire.BACKLOG_MAX:
            raise wire.Broken("more input than was waited for")
        typing.take(typist, record.offset, data)
        self._write(held)

    def _write(self, held: Held) -> None:
        try:
            held.line.typing.write(held.line.fd)
        except OSError:  # it has ended; its end comes by itself
            held.line.typing.clear()
        if held.line.typing.touched and not self._typed_at:
            self._typed_at = self._now() + TYPED_S
        self._poll(held)

    def _signal(self, held: Held, number: int) -> None:
        if held.ended or held.exit is not None:
            return
        self._kill(held.id, number)
        if number == signal.SIGHUP:
            held.kill_at = self._now() + KILL_S

    def _poll(self, held: Held) -> None:
        """What its PTY is watched for now."""
        wanted = held.wanted
        if wanted == held.events:
            return
        if not wanted:
            self._selector.unregister(held.line.fd)
        elif not held.events:
            self._selector.register(held.line.fd, wanted, lambda: self._ready(held))
        else:
            self._selector.modify(held.line.fd, wanted, lambda: self._ready(held))
        held.events = wanted

    def _ready(self, held: Held) -> None:
        if held.line.typing.backlog:
            self._write(held)
        if held.limit > 0 and not held.loan:
            self._read(held)

    def _read(self, held: Held) -> None:
        alone, self._last = self._last is held, held
        count = held.line.read(min(pty.PASS if alone else pty.SHARED_PASS, held.room))
        now = self._now()
        if held.line.seen is not None and held.hold(now):
            self._poll(held)
            return
        if count >= pty.FLOOD:
            held.flood_until = now + FLOOD_S
        if now < held.flood_until and held.line.kept.head - held.said < GATHER and held.limit > 0:
            held.say_at = held.say_at or now + GATHER_S
        elif count:
            self._say_output(held)
        if held.line.eof:
            self._finish(held)
        elif held.limit <= 0:
            self._poll(held)

    def _finish(self, held: Held) -> None:
        """Over only when its process has ended and everything it wrote has been read."""
        if held.ended or not held.line.eof:
            return
        if held.exit is None:
            self._poll(held)  # the process is not seen to be gone yet
            return
        held.ended = True
        held.end_at = held.kill_at = held.held_until = 0.0
        self._poll(held)
        held.line.close()
        self._say_output(held)
        body = wire.exited(held.exit.code & 0xFFFFFFFF, held.exit.signal)
        self._caller.tell(wire.record(wire.ENDED, held.slot, 0, held.line.kept.head, body))

    def _drop(self, slot: int) -> None:
        held = self._shells.pop(slot)
        if held.events:
            self._selector.unregister(held.line.fd)
        held.back()
        held.line.close()
        held.line.kept.release()
        held.memory.close()
        os.close(held.memory.fd)

    # --- what the server is told

    def _say_output(self, held: Held) -> None:
        """Its head; a server that does not read is told the last one when it does."""
        held.say_at = 0.0
        if self.outlet.stuck or not self._caller.greeted or held.loan:
            return
        kept = held.line.kept
        seam = kept.latest
        payload = b"" if seam is None else wire.number(seam)
        held.said = kept.head
        said = held.typed
        if self._typed_at and not any(other.line.typing.touched for other in self._shells.values()):
            self._typed_at = 0.0
        self._caller.tell(said + wire.record(wire.OUTPUT, held.slot, 0, kept.head, payload))

    def _catch_up(self) -> None:
        for held in self._shells.values():
            if not held.ended and held.said < held.line.kept.head:
                self._say_output(held)
