"""Run as a program by root: starts another one on a host that gives less than this one does, by the kernel's own means.

lesser_host.py KIND PROGRAM ARGUMENT...

no-userns     a filter, as containers have it, lets nobody make a user namespace
no-map        nobody may say whose users a namespace has, as AppArmor does on some hosts
no-address    nobody may give the namespace's loopback an address, as AppArmor does on others
limit=N       in a user namespace of its own, where N more may be made by one user
masked-proc   a part of /proc is covered, as in containers
bwrap=PATH    another program stands where bwrap is
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from pathlib import Path

from pilothouse.adapters.sandboxes import interpreter, kernel, seccomp

_MAP = "0 0 4294967295\n"


def _op(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
    return struct.pack("<HBBI", code, jt, jf, k)


def _refuse(code: int) -> bytes:
    return _op(0x06, 0x50000 | code)


_ALLOW = _op(0x06, 0x7FFF0000)
_NUMBER, _FIRST, _THIRD = (_op(0x20, at) for at in (0, 16, 32))
_AT_FDCWD = 0xFFFFFF9C
_CALLS = {"x86_64": {"sendto": 44, "openat": 257}, "aarch64": {"sendto": 206, "openat": 56}}


def _install(*parts: tuple[str, list[bytes]]) -> None:
    machine = os.uname().machine
    code = [_NUMBER]
    for call, body in parts:
        number = {**seccomp.MACHINES[machine].numbers, **_CALLS[machine]}[call]
        code += [_op(0x15, number, 0, len(body)), *body]
    code.append(_ALLOW)

    class Program(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    program = Program(len(code), b"".join(code))
    kernel.prctl(22, 2, ctypes.addressof(program))


def _no_userns() -> None:
    body = [_FIRST, _op(0x45, kernel.CLONE_NEWUSER, 0, 1), _refuse(errno.EPERM), _ALLOW]
    _install(("clone3", [_refuse(errno.ENOSYS)]), ("clone", body), ("unshare", body))


def _no_map() -> None:
    """bwrap is the only one here that opens something for reading and writing below a directory's descriptor."""
    here = [_FIRST, _op(0x15, _AT_FDCWD, 2), _THIRD, _op(0x45, os.O_RDWR, 1, 0), _ALLOW, _refuse(errno.EACCES)]
    _install(("openat", here))


def _limit(count: int) -> None:
    """A parent outside writes the map, which is every user's: it takes capabilities there."""
    ready, go = os.pipe(), os.pipe()
    me = os.getpid()
    helper = os.fork()
    if helper == 0:
        os.read(ready[0], 1)
        Path(f"/proc/{me}/uid_map").write_text(_MAP)
        Path(f"/proc/{me}/gid_map").write_text(_MAP)
        os.write(go[1], b"x")
        os._exit(0)
    kernel.unshare(kernel.CLONE_NEWUSER)
    os.write(ready[1], b"x")
    os.read(go[0], 1)
    os.waitpid(helper, 0)
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    Path("/proc/sys/user/max_user_namespaces").write_text(str(count))


def _private_mounts() -> None:
    kernel.unshare(kernel.CLONE_NEWNS)
    kernel.mount("none", "/", "", kernel.MS_REC | kernel.MS_PRIVATE)


def main(argv: list[str]) -> None:
    kind, _, value = argv[0].partition("=")
    if kind == "no-userns":
        _no_userns()
    elif kind == "no-map":
        _no_map()
    elif kind == "no-address":
        _install(("sendto", [_refuse(errno.EPERM)]))
    elif kind == "limit":
        _limit(int(value))
    elif kind == "masked-proc":
        _private_mounts()
        kernel.mount("/dev/null", "/proc/filesystems", "", kernel.MS_BIND)
    elif kind == "bwrap":
        _private_mounts()
        kernel.mount(value, str(interpreter.bwrap()), "", kernel.MS_BIND)
    else:
        raise SystemExit(f"unknown kind {kind}")
    os.execv(argv[1], argv[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
