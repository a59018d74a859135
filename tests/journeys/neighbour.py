"""Run inside two sessions by `test_two_sessions`, given to the session's own `python3` as text.

own TOKEN SECRET KEY    has something of every kind, says what in a JSON line, and keeps it until it is killed
probe                   FACTS in the environment is such a line, the secret reversed: tries to reach each of it
                        and prints {what: true when the other's own secret, or the thing itself, was reached}
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pty
import selectors
import signal
import socket
import sys
import time
import tty
from collections.abc import Callable
from typing import Any

PLACES = ("/workspace", "/home/agent", "/tmp", "/dev/shm", "/run")
CREATE = 0o3666
SEIZE = 0x4206
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long] * 4


# --- having


def own(token: str, secret: str, key: int) -> None:
    told = secret.encode()
    for place in PLACES:
        with open(f"{place}/{token}", "wb") as file:
            file.write(told)
    listening = {
        "tcp": listen(socket.AF_INET, ("127.0.0.1", 0)),
        "any": listen(socket.AF_INET, ("0.0.0.0", 0)),
        "tcp6": listen(socket.AF_INET6, ("::1", 0)),
        "path": listen(socket.AF_UNIX, f"/tmp/{token}.sock"),
        "workspace": listen(socket.AF_UNIX, f"/workspace/{token}.sock"),
        "abstract": listen(socket.AF_UNIX, f"\0{token}"),
    }
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind(("127.0.0.1", 0))
    made = (libc.shmget(key, 4096, CREATE), libc.msgget(key, CREATE), libc.semget(key, 1, CREATE))
    assert min(made) >= 0, made
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    signal.signal(signal.SIGUSR1, lambda *_: note(f"/workspace/{token}.signalled"))
    facts = {
        "token": token,
        "terces": secret[::-1],
        "key": key,
        "pid": os.getpid(),
        "ports": [listening["tcp"].getsockname()[1], listening["any"].getsockname()[1]],
        "port6": listening["tcp6"].getsockname()[1],
        "udp": udp.getsockname()[1],
        "terminal": os.ttyname(slave),
    }
    with open("/workspace/facts.new", "w") as file:
        json.dump(facts, file)
    os.rename("/workspace/facts.new", "/workspace/facts.json")
    serve(list(listening.values()), udp, master, told)


def note(path: str) -> None:
    with open(path, "a") as file:
        file.write("x")


def listen(family: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.bind(address)
    sock.listen(8)
    return sock


def serve(listening: list[socket.socket], udp: socket.socket, master: int, told: bytes) -> None:
    with selectors.DefaultSelector() as selector:
        for sock in (*listening, udp):
            selector.register(sock, selectors.EVENT_READ, sock)
        while True:
            with contextlib.suppress(BlockingIOError):
                os.write(master, told)
            for ready, _ in selector.select(0.1):
                if ready.data is udp:
                    udp.sendto(told, udp.recvfrom(100)[1])
                else:
                    peer, _ = ready.data.accept()
                    peer.sendall(told)
                    peer.close()


# --- trying


def probe(facts: dict[str, Any]) -> dict[str, bool]:
    secret = facts["terces"][::-1].encode()
    token = facts["token"]
    return {
        **{f"file in {place}": secret in content(f"{place}/{token}") for place in PLACES},
        **processes(secret, token),
        **{f"port {n}": any(secret in heard(socket.AF_INET, (host, port)) for host in addresses())
           for n, port in enumerate(facts["ports"])},
        "port of IPv6": secret in heard(socket.AF_INET6, ("::1", facts["port6"])),
        "datagram": secret in heard(socket.AF_INET, ("127.0.0.1", facts["udp"]), socket.SOCK_DGRAM),
        "socket in /tmp": secret in heard(socket.AF_UNIX, f"/tmp/{token}.sock"),
        "socket in the workspace": secret in heard(socket.AF_UNIX, f"/workspace/{token}.sock"),
        "abstract socket": secret in heard(socket.AF_UNIX, f"\0{token}"),
        "listed socket": token.encode() in content("/proc/net/unix"),
        "listed port": f":{facts['ports'][0]:04X} ".encode() in content("/proc/net/tcp") and bool(visible(secret)),
        "terminal": any(secret in typed(f"/dev/pts/{name}") for name in os.listdir("/dev/pts")),
        "shared memory": libc.shmget(facts["key"], 0, 0) >= 0,
        "message queue": libc.msgget(facts["key"], 0) >= 0,
        "semaphore": libc.semget(facts["key"], 0, 0) >= 0,
        "listed memory": hexed(facts["key"]) in content("/proc/sysvipc/shm"),
    }  # fmt: skip


def hexed(key: int) -> bytes:
    return str(key).encode()


def content(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(1 << 20)
    except OSError:
        return b""


def pids() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdecimal()]


def visible(secret: bytes) -> list[str]:
    return [pid for pid in pids() if secret in content(f"/proc/{pid}/cmdline")]


def processes(secret: bytes, token: str) -> dict[str, bool]:
    theirs = visible(secret)

    def each(attempt: Callable[[str], object]) -> bool:
        return any(works(attempt, pid) for pid in theirs)

    return {
        "command line": bool(theirs),
        "environment": any(secret in content(f"/proc/{pid}/environ") for pid in pids()),
        "its root": any(
            secret in content(f"/proc/{pid}/root/home/agent/{token}") for pid in pids() if pid != str(os.getpid())
        ),
        "its directory": any(secret in content(f"/proc/{pid}/cwd/{token}") for pid in pids()),
        "its descriptors": each(lambda pid: os.listdir(f"/proc/{pid}/fd")),
        "its memory": each(lambda pid: os.close(os.open(f"/proc/{pid}/mem", os.O_RDONLY))),
        "trace": each(lambda pid: traced(int(pid))),
        "signal": each(lambda pid: os.kill(int(pid), signal.SIGUSR1)),
        "priority": each(lambda pid: os.setpriority(os.PRIO_PROCESS, int(pid), 19)),
        "namespaces": each(lambda pid: os.readlink(f"/proc/{pid}/ns/net")),
    }


def traced(pid: int) -> None:
    """By a child that ends at once, which lets go of what it traces."""
    child = os.fork()
    if child == 0:
        os._exit(0 if libc.ptrace(SEIZE, pid, 0, 0) == 0 else 1)
    if os.waitpid(child, 0)[1] != 0:
        raise OSError("ptrace")


def works(attempt: Callable[[str], object], pid: str) -> bool:
    try:
        attempt(pid)
    except OSError:
        return False
    return True


def addresses() -> list[str]:
    return ["127.0.0.1", "127.0.0.2", socket.gethostname(), "0.0.0.0"]


def heard(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> bytes:
    with socket.socket(family, kind) as sock:
        sock.settimeout(10)
        try:
            sock.connect(address)
            if kind == socket.SOCK_DGRAM:
                sock.send(b"?")
            return sock.recv(1000)
        except OSError:
            return b""


def typed(path: str) -> bytes:
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return b""
    said, end = b"", time.monotonic() + 3
    while not said and time.monotonic() < end:
        try:
            said = os.read(fd, 4096)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            break
    os.close(fd)
    return said


# --- what is where


def surroundings() -> dict[str, object]:
    kinds = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
    rows = [row.split() for row in content("/proc/net/tcp").decode().splitlines()[1:]]
    return {
        "namespaces": {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in kinds},
        "listeners": {str(int(row[1].split(":")[1], 16)): row[9] for row in rows if row[3] == "0A"},
        "interfaces": [name for _, name in socket.if_nameindex()],
        "mounts": content("/proc/self/mountinfo").decode(),
        "all": content("/proc/self/environ").decode() + socket.gethostname() + content("/etc/passwd").decode(),
        "keyring": libc.syscall(250 if os.uname().machine == "x86_64" else 219, 0, -3, 1),
        "pids": [int(pid) for pid in pids()],
    }


if __name__ == "__main__":
    if sys.argv[1] == "own":
        own(sys.argv[2], sys.argv[3], int(sys.argv[4]))
    elif sys.argv[1] == "probe":
        json.dump(probe(json.loads(os.environ["FACTS"])), sys.stdout)
    else:
        json.dump(surroundings(), sys.stdout)
