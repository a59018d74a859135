"""Sessions where the host gives no namespaces: Landlock, a stricter filter, and a uid of their own. Opt-in, and said.

What keeps a session in:

    its uid          files of others, signals to others, memory of others, other sessions' sockets
    Landlock         reading and writing anything but what `rules` lists, TCP; from ABI 6 signals and abstract sockets
    seccomp          every socket but a unix one, datagrams, ptrace, System V IPC; all that the usual filter denies

What it has: the host's paths, its workspace and home among them; `TMPDIR` in its home, no /tmp; nothing of /proc but
the machine's figures, no shared memory. What it lacks is the network: Landlock cannot tell a host from a host, only
port from port, so no TCP is left open. The model is reached through a unix socket in a directory that only the
session's uid may pass: as everywhere, who calls is where the call arrives. Egress there is none.

What it costs, against namespaces: world-writable unix sockets of the host can be connected to (before ABI 9), abstract
ones too before ABI 6; names, sizes and times of files can be asked for though not read; the host's users and versions
are visible; nothing counts memory but a cgroup.

Without a uid of its own a session could chmod, signal and connect to whatever belongs to the server's user, and no rule
of Landlock would stop it: so only a keeper that is root offers this.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

from pilothouse.adapters.sandboxes import etcdir, kernel, landlock, netns, profile, seccomp, trees
from pilothouse.adapters.sandboxes.landlock import DEVICE, OWN, READ, RUN, Rule

ABI_MIN = 2
"""Before it, no file could be moved from one directory to another: git and package managers do that."""
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty", "ptmx", "pts")
"""Terminals are kept apart by their owner's uid."""
_ETC = ("passwd", "group", "hosts", "nsswitch.conf", "gai.conf")
"""Beside those of `etcdir`, which makes its own of these."""
_PROC = ("cpuinfo", "meminfo", "stat", "uptime", "loadavg", "version")
"""Of the machine, none of a process: other sessions' command lines would be among those."""
_TMP = ".tmp"


class Unsafe(Exception):
    """This level cannot be had here; the message says why."""


def check(uid: int | None) -> int:
    """The ABI to use. Raises Unsafe."""
    if not uid:
        raise Unsafe(
            "reduced isolation needs a uid of its own for every session, and the keeper is not root: "
            "one session could change and signal what belongs to the server's user"
        )
    version = landlock.abi()
    if version < ABI_MIN:
        have = f"ABI {version}" if version else "none"
        raise Unsafe(f"reduced isolation needs Landlock ABI {ABI_MIN} or later (Linux 5.19), here is {have}")
    return version


def environment(place: profile.Place) -> dict[str, str]:
    env = profile.environment(place.home, f"{place.home}/{_TMP}", place.workspace, 0, 0)
    env |= {"ANTHROPIC_BASE_URL": "http://localhost", "ANTHROPIC_UNIX_SOCKET": str(_model(place))}
    env |= {"CLAUDE_CODE_TMPDIR": env["TMPDIR"], "GIT_CONFIG_NOSYSTEM": "1"}
    return {name: value for name, value in env.items() if not name.lower().endswith("_proxy")}


def _model(place: profile.Place) -> Path:
    return Path(place.home).parent / trees.SOCKETS / trees.MODEL


def prepare(place: profile.Place) -> None:
    """The session's directory for temporary files, as the session's uid. Raises Unsafe."""
    for path in (place.home, place.workspace):
        try:
            os.close(os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError as error:
            raise Unsafe(f"the session's uid cannot reach its own {path}: {error.strerror}") from None
    tmp = Path(place.home, _TMP)
    if not tmp.is_dir() or tmp.is_symlink():
        tmp.unlink(missing_ok=True)
        tmp.mkdir(mode=0o700)


def listen(place: profile.Place) -> list[socket.socket]:
    """The model's listener, as the session's uid, in a directory that is not in the session's own."""
    path = _model(place)
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.bind(str(path))
    sock.listen(netns.BACKLOG)
    return [sock]


def rules(place: profile.Place, inside: profile.Interpreter) -> list[Rule]:
    found = [Rule(path, RUN) for path in _SYSTEM if not Path(path).is_symlink()]
    found += [Rule(host, RUN) for host, _ in inside.binds]
    found += [Rule(path, landlock.READ_DIR) for path in inside.path]
    found += [Rule(f"/etc/{name}", READ) for name in (*etcdir.names(), *_ETC)]
    found += [Rule(f"/dev/{name}", DEVICE | READ) for name in _DEVICES]
    found += [Rule(f"/proc/{name}", READ) for name in _PROC]
    found += [Rule("/sys/devices/system/cpu", READ)]
    found += [Rule(path, OWN) for path in (place.home, place.workspace)]
    return [*found, Rule(str(_model(place)), landlock.RESOLVE_UNIX)]


def confine(place: profile.Place, inside: profile.Interpreter, version: int) -> None:
    """This process and all that it starts, for good. Raises OSError, and then nothing may be started."""
    kernel.volunteer()
    landlock.restrict(rules(place, inside), version)
    seccomp.install(seccomp.program(os.uname().machine, alone=True))
