"""Kernel calls by name or number, for attacks; each raises OSError as `os` would."""

from __future__ import annotations

import ctypes
import os
import struct

from pilothouse.adapters.sandboxes import seccomp

_SINCE_5 = {"pidfd_getfd": 438, "pidfd_send_signal": 424}
"""The same on every architecture."""
_CAPABILITIES = 0x20080522
"""The version of their layout."""


def libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _done(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def number(name: str) -> int:
    """Raises KeyError for an unknown machine or one that lacks the call."""
    if name in _SINCE_5:
        return _SINCE_5[name]
    return seccomp.MACHINES[os.uname().machine].numbers[name]


def by_number(nr: int, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    call = libc().syscall
    call.restype = ctypes.c_long
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return _done(call(ctypes.c_long(nr), *passed), f"system call {nr}")


def by_name(name: str, *arguments: int | bytes | ctypes.Array[ctypes.c_char]) -> int:
    return by_number(number(name), *arguments)


def mount(source: str, target: str, kind: str, flags: int) -> None:
    done = libc().mount(source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), None)
    _done(done, "mount")


def umount(target: str) -> None:
    detach = 2
    _done(libc().umount2(target.encode(), detach), "umount2")


def ptrace(request: int, pid: int) -> None:
    call = libc().ptrace
    call.restype, call.argtypes = ctypes.c_long, [ctypes.c_long] * 4
    _done(call(request, pid, 0, 0), "ptrace")


class _Vector(ctypes.Structure):
    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


def read_memory(pid: int, address: int, length: int) -> bytes:
    """process_vm_readv."""
    buffer = ctypes.create_string_buffer(length)
    here = _Vector(ctypes.addressof(buffer), length)
    there = _Vector(address, length)
    call = libc().process_vm_readv
    call.restype = ctypes.c_ssize_t
    got = call(pid, ctypes.byref(here), 1, ctypes.byref(there), 1, 0)
    return buffer.raw[: _done(got, "process_vm_readv")]


def shmget(key: int, size: int, flags: int) -> int:
    return _done(libc().shmget(ctypes.c_int(key), ctypes.c_size_t(size), flags), "shmget")


def shmrm(ident: int) -> None:
    _done(libc().shmctl(ident, 0, None), "shmctl")


def msgget(key: int, flags: int) -> int:
    return _done(libc().msgget(ctypes.c_int(key), flags), "msgget")


def msgrm(ident: int) -> None:
    _done(libc().msgctl(ident, 0, None), "msgctl")


def capset(effective: int) -> None:
    """The given lower 32 capabilities, effective and permitted."""
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPABILITIES, 0))
    data = ctypes.create_string_buffer(struct.pack("<6I", effective, effective, 0, 0, 0, 0))
    _done(libc().capset(header, data), "capset")


def prctl(option: int, argument: int) -> int:
    return _done(libc().prctl(option, ctypes.c_ulong(argument), 0, 0, 0), "prctl")


def no_new_privs() -> bool:
    return prctl(39, 0) == 1


def filtered() -> bool:
    """By a seccomp filter."""
    return prctl(21, 0) == 2


def capabilities() -> int:
    """Effective, permitted and inheritable ones together."""
    header = ctypes.create_string_buffer(struct.pack("<Ii", _CAPABILITIES, 0))
    data = ctypes.create_string_buffer(24)
    _done(libc().capget(header, data), "capget")
    return int.from_bytes(data.raw, "little")


def personality(persona: int) -> int:
    return _done(libc().personality(ctypes.c_ulong(persona)), "personality")
