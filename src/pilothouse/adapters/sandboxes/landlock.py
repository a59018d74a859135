"""Landlock, the kernel's own file boundary for whoever may not make namespaces. Through ctypes; Linux 5.13 or later.

What a process may reach is a list of rules; everything else is refused, for it and for all that it starts, for good.
How much the kernel can guard is its ABI number:

    1 files and directories     2 moving between directories (REFER)     3 truncating     4 TCP     5 devices' ioctl
    6 signals and abstract unix sockets across the boundary              9 unix sockets by path

What a kernel knows is guarded whole, with no exception but the rules; what it does not know stays open and is for
`reduced` to judge. No ABI guards chmod, chown, stat and UDP.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
"""The same on every architecture."""
_VERSION = 1
_PATH_BENEATH = 1
_PR_SET_NO_NEW_PRIVS = 38

EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, REMOVE_DIR, REMOVE_FILE = (1 << n for n in range(6))
MAKE_CHAR, MAKE_DIR, MAKE_REG, MAKE_SOCK, MAKE_FIFO, MAKE_BLOCK, MAKE_SYM = (1 << n for n in range(6, 13))
REFER, TRUNCATE, IOCTL_DEV, RESOLVE_UNIX = (1 << n for n in range(13, 17))
_BIND_TCP, _CONNECT_TCP = 1, 2
_ABSTRACT_SOCKETS, _SIGNALS = 1, 2

_TCP_ABI = 4
SIGNALS_ABI = 6
SOCKETS_ABI = 9

READ = READ_FILE | READ_DIR
RUN = READ | EXECUTE
DEVICE = READ_FILE | WRITE_FILE | IOCTL_DEV
OWN = (RUN | WRITE_FILE | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_SYM | REFER) | (
    TRUNCATE | RESOLVE_UNIX
)
"""All that a directory of one's own needs; never device nodes."""
_OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV | RESOLVE_UNIX
"""Rights that a rule on anything but a directory may name."""

_SINCE = ((2, REFER), (3, TRUNCATE), (5, IOCTL_DEV), (SOCKETS_ABI, RESOLVE_UNIX))


@dataclass(frozen=True)
class Rule:
    path: str
    rights: int


def _syscall(number: int, *arguments: object) -> int:
    call = ctypes.CDLL(None, use_errno=True).syscall
    call.restype = ctypes.c_long
    result = int(call(ctypes.c_long(number), *arguments))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"Landlock: {os.strerror(code)}")
    return result


def abi() -> int:
    """What this kernel offers; 0 for nothing: too old, built or started without it, or hidden by a container."""
    try:
        return _syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    except OSError as error:
        if error.errno in {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}:
            return 0
        raise


def guarded(version: int) -> int:
    """The file rights that a kernel of this ABI knows."""
    known = EXECUTE | WRITE_FILE | READ | REMOVE_DIR | REMOVE_FILE
    known |= MAKE_CHAR | MAKE_DIR | MAKE_REG | MAKE_SOCK | MAKE_FIFO | MAKE_BLOCK | MAKE_SYM
    for since, right in _SINCE:
        known |= right if version >= since else 0
    return known


def attributes(version: int) -> bytes:
    """`struct landlock_ruleset_attr {u64 fs, net, scoped}`, as long as this ABI knows it."""
    fields = [guarded(version)]
    if version >= _TCP_ABI:
        fields.append(_BIND_TCP | _CONNECT_TCP)
    if version >= SIGNALS_ABI:
        fields.append(_ABSTRACT_SOCKETS | _SIGNALS)
    return struct.pack(f"={len(fields)}Q", *fields)


def restrict(rules: Iterable[Rule], version: int) -> None:
    """This process from now on; a path that does not exist is skipped. It can gain no privileges any more either.

    Raises OSError, and then nothing may be started: it would not be guarded.
    """
    wanted = attributes(version)
    ruleset = _syscall(_CREATE_RULESET, wanted, ctypes.c_size_t(len(wanted)), ctypes.c_uint32(0))
    try:
        for rule in rules:
            _allow(ruleset, rule, guarded(version))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), ctypes.c_ulong(0), ctypes.c_ulong(0), ctypes.c_ulong(0)):
            raise OSError(ctypes.get_errno(), "no_new_privs")
        _syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0))
    finally:
        os.close(ruleset)


def _allow(ruleset: int, rule: Rule, known: int) -> None:
    try:
        fd = os.open(rule.path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rights = rule.rights & known
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            rights &= _OF_FILES
        if rights:
            beneath = struct.pack("=Qi", rights, fd)
            _syscall(_ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_PATH_BENEATH), beneath, ctypes.c_uint32(0))
    finally:
        os.close(fd)
