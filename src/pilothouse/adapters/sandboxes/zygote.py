"""The zygote: a fork of the keeper that does nothing but fork holders.

A process shares with its parent what neither has written to since, and Python writes to whatever it uses. The keeper is
at work between one session and the next, so each holder would get pages that nobody else has any more. The zygote
waits in one system call.

keeper -> zygote, one packet a holder: a marshalled Order; descriptors beside it: where the holder reports to, those of
its control group, what is prepared for its sandbox. It ends when the keeper does.
"""

from __future__ import annotations

import array
import contextlib
import gc
import marshal
import os
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Any

from pilothouse.adapters.sandboxes import fdpass, gaps, holder, kernel, launch, meter, namespaced, profile, rehearsal
from pilothouse.adapters.sandboxes.cgroups import Leaf
from pilothouse.adapters.sandboxes.counter import Counter, turn
from pilothouse.adapters.sandboxes.order import LaunchFailed, Order
from pilothouse.core.limits import Caps

_PACKET_MAX = 128 * 1024
"""An order holds an environment, and that came in one line of half of this."""
_FDS_MAX = 64
"""A leaf in each of some hierarchies, and what is read in it."""
_SPACE = socket.CMSG_SPACE(_FDS_MAX * array.array("i").itemsize)
NAME = b"ph-zygote"
"""For people who look at the processes of a machine."""
_TAKEN_S = 10.0
"""For a packet to be taken: it has room for hundreds of them."""
_ROUNDS = 20
"""By then the interpreter has settled how it runs a function, which it writes into it."""


class Zygote:
    def __init__(self) -> None:
        self._line: socket.socket | None = None
        self._pid = 0

    def start(self) -> None:
        """A new one, now. What has been used before is shared best."""
        try:
            for _ in range(_ROUNDS):
                _rehearse()
        except (OSError, LaunchFailed, fdpass.Broken, rehearsal.NotPlayed) as error:  # a host may refuse any of it
            sys.stderr.write(f"zygote: not rehearsed, so that sessions take more memory: {error}\n")
            sys.stderr.flush()  # a fork would say it again
        gc.collect()
        gc.freeze()  # a collection writes to every object it looks at
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._pid = os.fork()
        if self._pid == 0:
            try:
                os.closerange(3, theirs.fileno())  # all of it is the keeper's own, or of a session that is not ours
                os.closerange(theirs.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
                _serve(theirs)
            finally:
                os._exit(0)
        theirs.close()
        ours.settimeout(_TAKEN_S)
        if self._line is not None:
            self._line.close()
        self._line = ours

    def hold(self, order: Order, report: int) -> None:
        """Forks a holder. Raises OSError."""
        packet = marshal.dumps(_plain(order))
        if self._line is None:
            self.start()
        assert self._line is not None
        prepared = namespaced.prepare(order)
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [report, *_of(order), *prepared]))]
        try:
            self._line.sendmsg([packet], rights)
        except (BrokenPipeError, ConnectionResetError):  # somebody has killed it
            self.start()
            self._line.sendmsg([packet], rights)
        finally:
            for fd in prepared:
                os.close(fd)

    def let_go(self) -> None:
        """In a forked child of the keeper."""
        if self._line is not None:
            self._line.close()

    def stop(self) -> None:
        """It has ended after this."""
        if self._line is not None:
            self._line.close()
            with contextlib.suppress(ChildProcessError):  # reaped as others are
                os.waitpid(self._pid, 0)


def _rehearse() -> None:
    """What every holder does at its start, as far as it can be done here: its traces are shared then."""
    launch.rehearse()
    nothing = profile.Interpreter("", (), (), "", "")
    order = Order(
        "", "bubblewrap", "", {"a": "b"}, profile.Place("/", "/", "/"), nothing, "", None, "", "", "", (os.geteuid(),)
    )
    order = _whole(marshal.loads(marshal.dumps(_plain(order))))  # noqa: S302  our own
    _renumber(order, ())
    one, two = socket.socketpair()
    with one, two, selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        me = os.pidfd_open(os.getpid())
        stack.callback(os.close, me)
        measuring = meter.Meter(order.bounds, order.sandbox, me, "/", lambda _: None)
        measuring.register(selector)
        Counter(selector, one, (), {}, lambda _, __: None)
        turn(selector, 0.0)
        measuring.tick(0.0, None, busy=False)
        measuring.close()
    rehearsal.shell(order)


def _of(order: Order) -> list[int]:
    """The descriptors that an order names."""
    leaf = order.bounds.leaf
    return sorted({*leaf.join, *leaf.files.values(), *leaf.wake})


def _renumber(order: Order, fds: Sequence[int]) -> Sequence[int]:
    """The same descriptors under the numbers that they have here; those that are none of the order's."""
    leaf, own = order.bounds.leaf, _of(order)
    here, others = dict(zip(own, fds, strict=False)), fds[len(own) :]
    leaf.join[:] = [here[fd] for fd in leaf.join]
    for name, fd in leaf.files.items():
        leaf.files[name] = here[fd]
    wake = {here[fd]: mask for fd, mask in leaf.wake.items()}
    leaf.wake.clear()
    leaf.wake.update(wake)
    return others


_KINDS = (Order, profile.Place, profile.Interpreter, meter.Bounds, Caps, Leaf)
_Plain = tuple[int, tuple[Any, ...]]


def _plain(thing: Any) -> _Plain:
    """A number that says what it is, and its fields. (`pickle` would touch 500 KB to read it.)"""
    fields = (getattr(thing, name) for name in thing.__dataclass_fields__)
    return _KINDS.index(type(thing)), tuple(_plain(v) if type(v) in _KINDS else v for v in fields)


def _whole(plain: _Plain) -> Any:
    kind, fields = plain
    names = tuple(_KINDS[kind].__dataclass_fields__)
    nested = _NESTED[kind]
    return _KINDS[kind](*(_whole(v) if name in nested else v for name, v in zip(names, fields, strict=True)))


_NESTED = (("place", "interpreter", "bounds"), (), (), ("caps", "leaf"), (), ())
"""Which fields of each kind are of such a kind."""


def _fork() -> int:
    """-1 when there is no room for another process: who waits for it sees its report end."""
    try:
        return os.fork()
    except OSError as error:
        sys.stderr.write(f"zygote: {error}\n")
        return -1


def _serve(line: socket.socket) -> None:
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    kernel.reap_children(True)
    kernel.prctl(kernel.PR_SET_CHILD_SUBREAPER, 1)  # a session's orphans, where the host's first process reaps nothing
    kernel.name(NAME)
    gc.disable()
    filled = gaps.fill()  # noqa: F841  for as long as this process lives
    while True:
        packet, ancillary, flags, _ = line.recvmsg(_PACKET_MAX, _SPACE, socket.MSG_CMSG_CLOEXEC)
        if not packet:
            return
        fds = array.array("i")
        for _, _, body in ancillary:
            fds.frombytes(body)
        if not flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC) and _fork() == 0:
            status = 1
            try:
                kernel.reap_children(False)
                line.close()
                order = _whole(marshal.loads(packet))  # noqa: S302  from the keeper alone
                prepared = _renumber(order, fds[1:])
                status = holder.hold(order, socket.socket(fileno=fds[0]), tuple(prepared))
            finally:
                os._exit(status)
        for fd in fds:
            os.close(fd)
