"""Sockets and shared memory: to reach a program of the host's, the network, the hypervisor."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes.escape import calls
from pilothouse.adapters.sandboxes.escape.ground import Check, Ground, content, failed, first, sure

_PATIENCE_S = 2.0
_HOST_SOCKETS = (
    "/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock", "/run/crio/crio.sock",
    "/run/dbus/system_bus_socket", "/run/systemd/private", "/run/systemd/journal/socket", "/run/systemd/notify",
    "/run/snapd.socket", "/run/udev/control", "/run/libvirt/libvirt-sock", "/dev/log", "/run/nscd/socket",
)  # fmt: skip
"""Looked for only: nothing is sent to what is no canary."""
_NORMAL = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)
_FAMILIES = range(46)
_AF_PACKET, _AF_VSOCK = 17, 40
_ALL_PROTOCOLS = socket.htons(3)
_METADATA = ("169.254.169.254", "169.254.170.2", "100.100.100.200", "168.63.129.16", "fd00:ec2::254")
_ELSEWHERE = ("192.0.2.1", "198.51.100.1", "2001:db8::1")
"""Addresses for documentation: nobody has them."""


def _connects(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> None:
    with socket.socket(family, kind) as sock:
        sock.settimeout(_PATIENCE_S)
        sock.connect(address)


def _listening(family: int, address: Any) -> socket.socket:
    """Something of one's own to connect to, for a control."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(address)
    sock.listen(1)
    return sock


def _control_unix(ground: Ground) -> None:
    path = f"{ground.tmp}/e-{ground.id}"
    with _listening(socket.AF_UNIX, path):
        sure(_reaches(path), "connects to its own socket")
    Path(path).unlink()


def _reaches(address: str) -> bool:
    return bool(failed("reached", _connects, socket.AF_UNIX, address))


def _hostsock(ground: Ground) -> str:
    _control_unix(ground)
    there = [p for p in _HOST_SOCKETS if Path(p).exists()]
    there += [str(p) for p in Path("/run/user").glob("*/bus")]
    if there:
        return f"{there[0]} is there"
    return "the server's sockets are reachable" if _reaches(ground.sockets["runtime"]) else ""


def _unix(ground: Ground) -> str:
    """A socket that everybody on the host may connect to, by its path and by descriptors of others."""
    _control_unix(ground)
    path = ground.sockets["world"]
    names = [path, f"/proc/1/root{path}", f"/proc/{ground.pid}/root{path}"]
    return "a socket of the host is reachable by its path" if any(_reaches(name) for name in names) else ""


def _abstract(ground: Ground) -> str:
    own = f"\0escape-{ground.id}"
    with _listening(socket.AF_UNIX, own):
        sure(_reaches(own), "connects to its own abstract socket")
    return "an abstract socket of the host is reachable" if _reaches("\0" + ground.abstract) else ""


def _netunix(ground: Ground) -> str:
    own = f"escape-{ground.id}-listed"
    with _listening(socket.AF_UNIX, "\0" + own):
        listed = content("/proc/net/unix").decode(errors="replace")
    sure(own in listed, "its own socket is listed")
    names = [ground.abstract, *ground.sockets.values()]
    return "sockets of the host are listed" if any(name in listed for name in names) else ""


def _loopback(ground: Ground) -> str:
    with _listening(socket.AF_INET, ("127.0.0.1", 0)) as own:
        sure(failed("yes", _connects, socket.AF_INET, own.getsockname()), "connects to its own port")
    found = [
        failed(f"port {ground.port} of the host at {host}", _connects, socket.AF_INET, (host, ground.port))
        for host in ("127.0.0.1", "127.0.0.2", "0.0.0.0")  # noqa: S104  to connect to, not to listen on
    ]
    found += [failed(host, _connects, socket.AF_INET6, (host, ground.port)) for host in ("::1", "::ffff:127.0.0.1")]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, contextlib.suppress(OSError):
        sock.sendto(b"x", ("127.0.0.1", ground.udp))  # whether it arrives, the canary tells
    return first(*found)


def _ifaces(ground: Ground) -> str:
    names = {name for _, name in socket.if_nameindex()}
    sure("lo" in names, "its own loopback is there")
    listed = {row.partition(b":")[0].strip().decode() for row in content("/proc/net/dev").splitlines() if b":" in row}
    others = sorted((names | listed) - {"lo"})
    if others:
        return f"interfaces are visible: {', '.join(others)}"
    routes = content("/proc/net/route").splitlines()[1:]
    return "there are routes" if routes else ""


def _route(address: str, port: int = 80) -> str:
    """A datagram socket that is connected sends nothing: the kernel looks for a way, and that is all."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return failed(f"there is a way to {address}", _connects, family, (address, port), socket.SOCK_DGRAM)


def _metadata(ground: Ground) -> str:
    """Where clouds hand out credentials."""
    sure(_route("127.0.0.1"), "there is a way to oneself")
    return first(*(_route(address) for address in _METADATA))


def _direct(ground: Ground) -> str:
    """A way out that is not the proxy."""
    sure(_route("127.0.0.1"), "there is a way to oneself")
    return first(*(_route(address) for address in _ELSEWHERE))


def _made(family: int, kind: int, protocol: int = 0) -> None:
    socket.socket(family, kind, protocol).close()


def _raw(ground: Ground) -> str:
    _made(socket.AF_INET, socket.SOCK_DGRAM)
    return first(
        failed("a raw socket was made", _made, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP),
        failed("a raw IPv6 socket was made", _made, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6),
        failed("a packet socket was made", _made, _AF_PACKET, socket.SOCK_RAW, _ALL_PROTOCOLS),
    )


def _vsock(ground: Ground) -> str:
    """It reaches the hypervisor, whatever the network namespace."""
    found = [failed("a vsock was made", _made, _AF_VSOCK, kind) for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM)]
    return first(*found, failed("/dev/vsock opens", os.open, "/dev/vsock", os.O_RDONLY))


def _exotic(ground: Ground) -> str:
    """Families that hardly anybody uses and few have looked at."""
    for family in _NORMAL:
        _made(family, socket.SOCK_DGRAM)
    kinds = (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW, socket.SOCK_SEQPACKET)
    for number in set(_FAMILIES) - set(_NORMAL):
        for kind in kinds:
            if failed("made", _made, number, kind):
                return f"a socket of family {number} was made"
    return ""


def _sysvshm(ground: Ground) -> str:
    """Memory, queues and semaphores with a number for a name."""
    own = calls.shmget(0, 4096, 0o3600)
    calls.shmrm(own)
    listed = [len(content(f"/proc/sysvipc/{name}").splitlines()) for name in ("shm", "msg", "sem")]
    if max(listed) > 1:
        return "shared memory of others is listed"
    return first(
        _absent("a segment of the host's was found", calls.shmget, ground.shared_key, 0, 0),
        _absent("a queue of the host's was found", calls.msgget, ground.shared_key, 0),
    )


def _absent(what: str, attack: Callable[..., int], *arguments: int) -> str:
    """ "" when there is none of that key; one that is there and closed is there."""
    try:
        attack(*arguments)
    except OSError as error:
        return "" if error.errno in {errno.ENOENT, errno.ENOSYS, errno.EPERM} else what
    return what


def _devshm(ground: Ground) -> str:
    own = Path("/dev/shm", f"escape-{ground.id}")  # noqa: S108
    own.write_bytes(b"x")
    own.unlink()
    if ground.secret in content(ground.files["shm"]):
        return "shared memory of the host was read"
    strangers = [p.name for p in Path("/dev/shm").iterdir() if p.stat().st_uid != os.getuid()]  # noqa: S108
    queues = list(Path("/dev/mqueue").iterdir()) if Path("/dev/mqueue").is_dir() else []
    return f"shared memory of others is there: {[*strangers, *queues][0]}" if strangers or queues else ""


CHECKS: dict[str, Check] = {
    "s.hostsock": _hostsock,
    "s.unix": _unix,
    "s.abstract": _abstract,
    "s.netunix": _netunix,
    "s.loopback": _loopback,
    "s.ifaces": _ifaces,
    "s.metadata": _metadata,
    "s.direct": _direct,
    "s.raw": _raw,
    "s.vsock": _vsock,
    "s.exotic": _exotic,
    "s.sysvshm": _sysvshm,
    "s.devshm": _devshm,
}
