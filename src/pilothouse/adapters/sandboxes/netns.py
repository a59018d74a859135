"""Listening sockets made inside a session's network namespace, for use outside it.

A socket stays in the namespace it was made in, so the proxy on the host simply accepts on it: no forwarder, no process
inside, and the listener's identity is the session's identity. A forked child enters the namespace (its owner's user
namespace first, for the right to), binds and hands the sockets back.

IP_FREEBIND: the namespace's `lo` may not have its address yet.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket

from pilothouse.adapters.sandboxes import kernel

_NS_GET_USERNS = 0xB701
_IP_FREEBIND = 15
BACKLOG = 128
"""Connections that wait while the proxy restarts."""


def listen(ports: tuple[int, ...], freebind: bool = False) -> list[socket.socket]:
    """Listeners on 127.0.0.1 in the caller's own network namespace."""
    made = []
    for port in ports:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if freebind:
            sock.setsockopt(socket.SOL_IP, _IP_FREEBIND, 1)
        sock.bind(("127.0.0.1", port))
        sock.listen(BACKLOG)
        made.append(sock)
    return made


def _enter(pid: int) -> None:
    net = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
    owner = fcntl.ioctl(net, _NS_GET_USERNS)
    kernel.setns(owner, kernel.CLONE_NEWUSER)
    kernel.setns(net, kernel.CLONE_NEWNET)


def listen_inside(pid: int, ports: tuple[int, ...]) -> list[socket.socket]:
    """Listeners on 127.0.0.1 in the network namespace of `pid`. Raises OSError."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    child = os.fork()
    if child == 0:
        _child(theirs, pid, ports)
    theirs.close()
    with ours:
        size = socket.CMSG_SPACE(len(ports) * array.array("i").itemsize)
        said, ancillary, _, _ = ours.recvmsg(4096, size, socket.MSG_CMSG_CLOEXEC)
    os.waitpid(child, 0)
    if said != b"ok":
        raise OSError(f"listeners inside the session: {said.decode(errors='replace') or 'helper died'}")
    fds = array.array("i")
    for _, _, body in ancillary:
        fds.frombytes(body)
    return [socket.socket(fileno=fd) for fd in fds]


def _child(theirs: socket.socket, pid: int, ports: tuple[int, ...]) -> None:
    status = 1
    try:
        _enter(pid)
        fds = array.array("i", [sock.detach() for sock in listen(ports, freebind=True)])
        theirs.sendmsg([b"ok"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)])
        status = 0
    except OSError as error:
        theirs.send(str(error).encode())
    finally:
        os._exit(status)
