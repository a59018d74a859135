"""The arguments of bwrap for one session, and what a session sees. Pure: paths in, a list out.

Only `--die-with-parent --as-pid-1 --args FD -- <first process>` is on the command line; the rest travels on a
memfd, so that `/proc` inside shows neither host paths nor variables. The first process sleeps: as pid 1 it
cannot be killed from inside, and its end is the end of everything in it.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from pathlib import Path

MODEL_PORT = 3129
EGRESS_PORT = 3128
INSIDE_UID = 1000
PYTHON = "/opt/pilothouse/python"
APP = "/opt/pilothouse/app"
SITE = "/opt/pilothouse/site"

_PROC_DIRS = ("sys", "irq", "bus", "fs", "sysrq-trigger", "scsi", "acpi", "asound")
_PROC_FILES = (
    "kcore", "keys", "key-users", "timer_list", "sched_debug", "kallsyms", "kpagecount", "kpageflags", "kpagecgroup",
    "latency_stats", "mtrr",
)  # fmt: skip


@dataclass(frozen=True)
class Interpreter:
    """The running Python, and where its parts are on the host and inside."""

    executable: str
    """Inside."""
    binds: tuple[tuple[str, str], ...]
    """(host, inside), read-only."""
    path: tuple[str, ...]
    """Inside: what is added to sys.path."""
    library: str
    """Inside: where its shared library is, empty if it has none of its own."""
    version: str


@dataclass(frozen=True)
class Place:
    """The host paths of one sandbox, as the session's uid reaches them."""

    etc: str
    home: str
    workspace: str


def environment(home: str, tmp: str, workspace: str, model_port: int, egress_port: int) -> dict[str, str]:
    """Everything a session finds in its environment. Nothing of the host's own."""
    egress = f"http://127.0.0.1:{egress_port}"
    nobody = "127.0.0.1,localhost,::1"
    return {
        # What the agent has installed for itself comes last: it adds programs, and stands for none of the system's.
        "PATH": f"/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin:{home}/.local/bin",
        "HOME": home,
        "USER": "agent",
        "LOGNAME": "agent",
        "SHELL": "/bin/bash",
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        "TMPDIR": tmp,
        "PWD": workspace,
        "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{model_port}",
        "ANTHROPIC_API_KEY": "session-placeholder",
        "CLAUDE_CONFIG_DIR": f"{home}/.claude",
        "PILOTHOUSE_OWN_HOME": "1",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
        "DISABLE_TELEMETRY": "1",
        "HTTPS_PROXY": egress,
        "HTTP_PROXY": egress,
        "https_proxy": egress,
        "http_proxy": egress,
        "NO_PROXY": nobody,
        "no_proxy": nobody,
    }


def session_environment() -> dict[str, str]:
    return environment("/home/agent", "/tmp", "/workspace", MODEL_PORT, EGRESS_PORT)  # noqa: S108


@functools.cache
def _root_links() -> list[str]:
    """`/bin`, `/lib` and their kind: links on a merged host, directories elsewhere."""
    args = ["--ro-bind", "/usr", "/usr"]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        path = f"/{name}"
        if Path(path).is_symlink():
            args += ["--symlink", os.readlink(path), path]  # noqa: PTH115
        elif Path(path).is_dir():
            args += ["--ro-bind", path, path]
    return args


@functools.cache
def _proc() -> list[str]:
    """A root bwrap leaves `/proc/sys` writable, and some files are 0666: cover them whoever we are."""
    args = ["--proc", "/proc"]
    for name in _PROC_DIRS:
        if Path("/proc", name).exists():
            args += ["--ro-bind", f"/proc/{name}", f"/proc/{name}"]
    for name in _PROC_FILES:
        if Path("/proc", name).exists():
            args += ["--ro-bind", "/dev/null", f"/proc/{name}"]
    return args


def _tmpfs(size: int, mode: str, path: str) -> list[str]:
    return ["--size", str(size), "--perms", mode, "--tmpfs", path]


def arguments(
    place: Place,
    interpreter: Interpreter,
    env: dict[str, str],
    *,
    seccomp: int,
    info: int,
    block: int,
    userns: bool,
    sizes: tuple[int, int, int],
) -> list[str]:
    """The data of `--args`. `userns` False leaves `--disable-userns` out: the filter denies nesting by itself. `sizes`
    in bytes of /tmp, /dev/shm and /run: what lies there is memory of the session's."""
    tmp, shm, run = sizes
    args = ["--unshare-user", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup", "--unshare-net"]
    args += ["--uid", str(INSIDE_UID), "--gid", str(INSIDE_UID), "--hostname", "sandbox", "--clearenv"]
    if userns:
        args += ["--disable-userns", "--assert-userns-disabled"]
    args += _root_links()  # looked up once for each keeper
    args += ["--ro-bind", place.etc, "/etc"]
    args += _proc()
    args += ["--dev", "/dev", *_tmpfs(shm, "1777", "/dev/shm"), "--remount-ro", "/dev"]  # noqa: S108
    args += _tmpfs(tmp, "1777", "/tmp") + _tmpfs(run, "0755", "/run")  # noqa: S108
    args += ["--dir", "/var", "--symlink", "../run", "/var/run", "--symlink", "../tmp", "/var/tmp"]  # noqa: S108
    for host, inside in interpreter.binds:
        args += ["--ro-bind", host, inside]
    args += ["--bind", place.home, "/home/agent", "--bind", place.workspace, "/workspace"]
    args += ["--remount-ro", "/", "--chdir", "/workspace", "--cap-drop", "ALL"]
    for name, value in env.items():
        args += ["--setenv", name, value]
    return [*args, "--seccomp", str(seccomp), "--info-fd", str(info), "--block-fd", str(block)]
