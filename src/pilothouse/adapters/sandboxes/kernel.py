"""The kernel calls that Python 3.11 has no name for, through ctypes. Linux only; each raises OSError as `os` would.

Nothing here is loaded before it is needed: `ctypes.CDLL(None)` is the C library that the interpreter already uses. It
is wrapped once: each wrapper is a class of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import signal

OOM_SCORE = b"500"
"""When memory runs out a session goes before anything of the host."""
PR_SET_PDEATHSIG = 1
PR_GET_DUMPABLE = 3
PR_SET_DUMPABLE = 4
PR_SET_NAME = 15
PR_GET_SECCOMP = 21
PR_CAPBSET_READ = 23
PR_CAPBSET_DROP = 24
PR_SET_NO_NEW_PRIVS = 38
PR_GET_NO_NEW_PRIVS = 39
PR_CAP_AMBIENT = 47
PR_SET_CHILD_SUBREAPER = 36

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_REMOUNT = 0x20
MS_BIND = 0x1000
MS_NOATIME = 0x400
MS_REC = 0x4000
MS_PRIVATE = 0x40000

SYS_OPENAT2 = 437
"""The same on every architecture: it is younger than the unified numbers."""
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08


@functools.cache
def _libc() -> ctypes.CDLL:
    """Once: each CDLL makes a class of its own, which only the collector frees."""
    return ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def prctl(option: int, argument: int, third: int = 0) -> None:
    _check(_libc().prctl(option, ctypes.c_ulong(argument), ctypes.c_ulong(third), 0, 0), "prctl")


def drop_bounding_set() -> None:
    """No program that this process starts can have a capability, whatever its file says."""
    with contextlib.suppress(OSError):  # EINVAL: past the last one that this kernel knows
        for capability in range(64):
            prctl(PR_CAPBSET_DROP, capability)


def reap_children(by_itself: bool) -> None:
    """Whether the kernel clears away this process's children when they end. Python's own `signal.signal` would do, but
    costs a fork 200 KB of pages that it shared before."""
    default, ignore = 0, 1
    _libc().signal(signal.SIGCHLD, ctypes.c_void_p(ignore if by_itself else default))


def volunteer() -> None:
    """When memory runs out this process, and what it starts, goes before anything of the host. Who is undumpable may
    not even write that about itself, so it is not for a moment."""
    dumpable = ask(PR_GET_DUMPABLE) == 1
    prctl(PR_SET_DUMPABLE, 1)
    try:
        with contextlib.suppress(OSError):  # some containers let nobody
            fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, OOM_SCORE)
            finally:
                os.close(fd)
    finally:
        prctl(PR_SET_DUMPABLE, int(dumpable))


def forget_arguments() -> None:
    """What the kernel shows as this process's command line and first environment is empty from here on."""
    with open("/proc/self/stat", "rb") as file:  # noqa: PTH123
        fields = file.read().rpartition(b")")[2].split()
    starts = map(int, fields[45:49])  # 48 to 51 in proc(5): arg_start, arg_end, env_start, env_end
    for begin, end in zip(starts, starts, strict=True):
        if 0 < begin < end:
            ctypes.memset(begin, 0, end - begin)


def name(text: bytes) -> None:
    """What `ps -o comm` shows of this process; at most 15 bytes."""
    kept = ctypes.create_string_buffer(text)
    prctl(PR_SET_NAME, ctypes.addressof(kept))


def ask(option: int, argument: int = 0) -> int:
    """A prctl that answers with a number."""
    return _check(_libc().prctl(option, ctypes.c_ulong(argument), 0, 0, 0), "prctl")


def capabilities() -> int:
    """What this process has, or could get: effective, permitted, inheritable and bounding set as bits."""
    version_3 = 0x20080522
    header, sets = (ctypes.c_uint32 * 2)(version_3, 0), (ctypes.c_uint32 * 6)()
    _check(_libc().capget(header, sets), "capget")
    found = 0
    for n, part in enumerate(sets):
        found |= part << (32 * (n // 3))
    with contextlib.suppress(OSError):
        for capability in range(64):
            found |= ask(PR_CAPBSET_READ, capability) << capability
    return found


def drop_capabilities() -> None:
    """All sets, for good."""
    drop_bounding_set()
    clear_all = 4
    prctl(PR_CAP_AMBIENT, clear_all)
    version_3 = 0x20080522
    header, sets = (ctypes.c_uint32 * 2)(version_3, 0), (ctypes.c_uint32 * 6)()
    _check(_libc().capset(header, sets), "capset")


def unshare(flags: int) -> None:
    _check(_libc().unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    _check(_libc().setns(fd, kind), "setns")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    result = _libc().mount(
        source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), data.encode() or None
    )
    _check(result, f"mount {source} on {target}")


def umount(target: str, *, detach: bool = True) -> None:
    """`detach`: also what is in use, now for everybody new and in the end for all."""
    mnt_detach = 2
    _check(_libc().umount2(target.encode(), mnt_detach if detach else 0), f"umount {target}")


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def openat2(dirfd: int, path: bytes, flags: int, resolve: int) -> int:
    how = _OpenHow(flags | os.O_CLOEXEC, 0, resolve)
    call = _libc().syscall
    call.restype = ctypes.c_long
    return _check(
        call(
            ctypes.c_long(SYS_OPENAT2),
            ctypes.c_int(dirfd),
            ctypes.c_char_p(path),
            ctypes.byref(how),
            ctypes.c_size_t(ctypes.sizeof(how)),
        ),
        "openat2",
    )
