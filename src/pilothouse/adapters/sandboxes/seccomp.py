"""The session's system call filter, assembled here: classic BPF, no library.

A program is an array of `struct sock_filter {u16 code; u8 jt; u8 jf; u32 k}` over `struct seccomp_data {int nr;
u32 arch; u64 instruction_pointer; u64 args[6]}`. What it does, in order:

    other architecture than this machine's   kill the process (int 0x80 would get round every number below)
    x86_64: number with the x32 bit          ENOSYS
    clone3                                   ENOSYS: its flags lie in memory, where a filter cannot look; libc then
                                             uses clone, whose flags it can check. EPERM would break libc.
    new mount API, io_uring, bpf, ...        ENOSYS: programs fall back
    mount, unshare, keyctl, ...              EPERM
    clone with any CLONE_NEW* flag           EPERM
    ioctl TIOCSTI, TIOCLINUX                 EPERM, by the low 32 bits only, as the kernel reads them (CVE-2019-10063)
    socket of a family other than UNIX, INET, INET6, NETLINK   EPERM (a vsock reaches the hypervisor from anywhere)
    personality other than reading it or the default           EPERM
    anything else                            allowed; ptrace too: debuggers of one's own processes are normal work

Without namespaces (`alone`) the filter stands in for some of them:

    ptrace, process_vm_*, pidfd_getfd        EPERM
    System V IPC, POSIX message queues       EPERM: they would be shared with the whole host
    prlimit64 of another process             EPERM
    ioctl 0x8910 to 0x89ff                   EPERM: they list the host's interfaces, on any socket
    socket of a family other than UNIX       EAFNOSUPPORT, as where there is no network
    socket, socketpair of any type but stream and seqpacket   EPERM: datagrams reach any path without a connection
"""

from __future__ import annotations

import ctypes
import errno
import functools
import struct
from dataclasses import dataclass

from pilothouse.adapters.sandboxes import kernel

_PR_SET_SECCOMP = 22
_MODE_FILTER = 2
_LD_ABS = 0x20
_JEQ = 0x15
_JGE = 0x35
_JSET = 0x45
_AND = 0x54
_RET = 0x06

INSTRUCTION = 8
"""Bytes of one."""
_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERRNO = 0x00050000

_NR = 0
_ARCH = 4


def _arg(n: int) -> int:
    """Offset of the low half of an argument; both machines are little-endian."""
    return 16 + 8 * n


@dataclass(frozen=True)
class Machine:
    arch: int
    """AUDIT_ARCH_*"""
    x32: bool
    numbers: dict[str, int]


_BOTH = {
    "clone3": 435, "open_tree": 428, "move_mount": 429, "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433,
    "mount_setattr": 442, "statmount": 457, "listmount": 458, "open_tree_attr": 467, "io_uring_setup": 425,
    "io_uring_enter": 426, "io_uring_register": 427, "quotactl_fd": 443, "set_mempolicy_home_node": 450,
    "pidfd_getfd": 438,
}  # fmt: skip

_X86_64 = {
    "bpf": 321, "userfaultfd": 323, "perf_event_open": 298, "mount": 165, "umount2": 166, "pivot_root": 155,
    "chroot": 161, "unshare": 272, "setns": 308, "keyctl": 250, "add_key": 248, "request_key": 249, "syslog": 103,
    "open_by_handle_at": 304, "name_to_handle_at": 303, "kexec_load": 246, "kexec_file_load": 320, "init_module": 175,
    "finit_module": 313, "delete_module": 176, "swapon": 167, "swapoff": 168, "reboot": 169, "quotactl": 179,
    "acct": 163, "settimeofday": 164, "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159, "iopl": 172,
    "ioperm": 173, "kcmp": 312, "modify_ldt": 154, "mbind": 237, "set_mempolicy": 238, "get_mempolicy": 239,
    "migrate_pages": 256, "move_pages": 279, "lookup_dcookie": 212, "nfsservctl": 180, "uselib": 134, "vhangup": 153,
    "fanotify_init": 300, "clone": 56, "ioctl": 16, "socket": 41, "personality": 135, "ptrace": 101,
    "process_vm_readv": 310, "process_vm_writev": 311, "shmget": 29, "shmat": 30, "shmctl": 31, "semget": 64,
    "semop": 65, "semctl": 66, "semtimedop": 220, "msgget": 68, "msgsnd": 69, "msgrcv": 70, "msgctl": 71,
    "mq_open": 240, "mq_unlink": 241, "inotify_add_watch": 254, "prlimit64": 302, "socketpair": 53,
}  # fmt: skip

_AARCH64 = {
    "bpf": 280, "userfaultfd": 282, "perf_event_open": 241, "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51,
    "unshare": 97, "setns": 268, "keyctl": 219, "add_key": 217, "request_key": 218, "syslog": 116,
    "open_by_handle_at": 265, "name_to_handle_at": 264, "kexec_load": 104, "kexec_file_load": 294, "init_module": 105,
    "finit_module": 273, "delete_module": 106, "swapon": 224, "swapoff": 225, "reboot": 142, "quotactl": 60, "acct": 89,
    "settimeofday": 170, "clock_settime": 112, "clock_adjtime": 266, "adjtimex": 171, "kcmp": 272, "mbind": 235,
    "set_mempolicy": 237, "get_mempolicy": 236, "migrate_pages": 238, "move_pages": 239, "lookup_dcookie": 18,
    "nfsservctl": 42, "vhangup": 58, "fanotify_init": 262, "clone": 220, "ioctl": 29, "socket": 198, "personality": 92,
    "ptrace": 117, "process_vm_readv": 270, "process_vm_writev": 271, "shmget": 194, "shmat": 196, "shmctl": 195,
    "semget": 190, "semop": 193, "semctl": 191, "semtimedop": 192, "msgget": 186, "msgsnd": 189, "msgrcv": 188,
    "msgctl": 187, "mq_open": 180, "mq_unlink": 181, "inotify_add_watch": 27, "prlimit64": 261, "socketpair": 199,
}  # fmt: skip

MACHINES = {
    "x86_64": Machine(0xC000003E, True, _BOTH | _X86_64),
    "aarch64": Machine(0xC00000B7, False, _BOTH | _AARCH64),
}

_ABSENT = (
    "clone3", "open_tree", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr", "statmount",
    "listmount", "open_tree_attr", "io_uring_setup", "io_uring_enter", "io_uring_register", "bpf", "userfaultfd",
    "perf_event_open",
)  # fmt: skip
_CHECKED = ("clone", "ioctl", "socket", "socketpair", "personality", "prlimit64")
_ALONE = (
    "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "shmget", "shmat", "shmctl", "semget", "semop",
    "semctl", "semtimedop", "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink",
    "inotify_add_watch",
)  # fmt: skip
"""Denied where there is no namespace that would keep them in; elsewhere they are normal work. A watch tells the names
of what others make and open, which no Landlock rule keeps."""

_CLONE_NEW = 0x7E020080
"""NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET and NEWTIME."""
_TIOCSTI = 0x5412
_TIOCLINUX = 0x541C
_FAMILIES = (1, 2, 10, 16)
"""UNIX, INET, INET6, NETLINK."""
_AF_UNIX = 1
_SOCK_TYPES = (1, 5)
"""STREAM and SEQPACKET; the flags CLOEXEC and NONBLOCK are beside the number."""
_SOCK_TYPE_MASK = 0xF
_INTERFACES, _INTERFACES_END = 0x8910, 0x8A00
_PERSONALITIES = (0, 0xFFFFFFFF)
_X32_BIT = 0x40000000


def _op(code: int, k: int, jt: int = 0, jf: int = 0) -> bytes:
    return struct.pack("<HBBI", code, jt, jf, k)


def _fail(code: int) -> bytes:
    return _op(_RET, _ERRNO | code)


def _deny(number: int, code: int) -> list[bytes]:
    return [_op(_JEQ, number, 0, 1), _fail(code)]


def _only(number: int, argument: int, allowed: tuple[int, ...]) -> list[bytes]:
    """The call `number` passes only with `argument` among `allowed`."""
    tests = [_op(_JEQ, value, len(allowed) - i) for i, value in enumerate(allowed)]
    body = [_op(_LD_ABS, _arg(argument)), *tests, _fail(errno.EPERM), _op(_RET, _ALLOW)]
    return [_op(_JEQ, number, 0, len(body)), *body]


def _never(number: int, argument: int, refused: tuple[int, ...]) -> list[bytes]:
    """The call `number` passes unless `argument` is among `refused`."""
    tests = [_op(_JEQ, value, len(refused) - i) for i, value in enumerate(refused)]
    body = [_op(_LD_ABS, _arg(argument)), *tests, _op(_RET, _ALLOW), _fail(errno.EPERM)]
    return [_op(_JEQ, number, 0, len(body)), *body]


def _no_bits(number: int, argument: int, mask: int) -> list[bytes]:
    body = [_op(_LD_ABS, _arg(argument)), _op(_JSET, mask, 0, 1), _fail(errno.EPERM), _op(_RET, _ALLOW)]
    return [_op(_JEQ, number, 0, len(body)), *body]


def _no_range(number: int, argument: int, low: int, end: int) -> list[bytes]:
    """The call `number` goes on to what follows unless low <= `argument` < end."""
    body = [_op(_LD_ABS, _arg(argument)), _op(_JGE, low, 0, 2), _op(_JGE, end, 1), _fail(errno.EPERM)]
    return [_op(_JEQ, number, 0, len(body) + 1), *body, _op(_LD_ABS, _NR)]


def _local(number: int) -> list[bytes]:
    """socket and socketpair: of the family UNIX, with a connection."""
    body = [_op(_LD_ABS, _arg(0)), _op(_JEQ, _AF_UNIX, 1), _fail(errno.EAFNOSUPPORT)]
    body += [_op(_LD_ABS, _arg(1)), _op(_AND, _SOCK_TYPE_MASK)]
    tests = [_op(_JEQ, kind, len(_SOCK_TYPES) - i) for i, kind in enumerate(_SOCK_TYPES)]
    body += [*tests, _fail(errno.EPERM), _op(_RET, _ALLOW)]
    return [_op(_JEQ, number, 0, len(body)), *body]


@functools.cache
def program(machine: str, *, alone: bool = False) -> bytes:
    """The filter for `machine` (as in `os.uname().machine`), `alone` where no namespace stands beside it.

    Raises KeyError for a machine without a table.
    """
    m = MACHINES[machine]
    code = [_op(_LD_ABS, _ARCH), _op(_JEQ, m.arch, 1), _op(_RET, _KILL), _op(_LD_ABS, _NR)]
    if m.x32:
        code += [_op(_JGE, _X32_BIT, 0, 1), _fail(errno.ENOSYS)]
    for name, number in m.numbers.items():
        if name not in _CHECKED and (alone or name not in _ALONE):
            code += _deny(number, errno.ENOSYS if name in _ABSENT else errno.EPERM)
    code += _no_bits(m.numbers["clone"], 0, _CLONE_NEW)
    if alone:
        code += _no_range(m.numbers["ioctl"], 1, _INTERFACES, _INTERFACES_END)
        code += _only(m.numbers["prlimit64"], 0, (0,))
        code += _local(m.numbers["socket"]) + _local(m.numbers["socketpair"])
    else:
        code += _only(m.numbers["socket"], 0, _FAMILIES)
    code += _never(m.numbers["ioctl"], 1, (_TIOCSTI, _TIOCLINUX))
    code += _only(m.numbers["personality"], 0, _PERSONALITIES)
    code.append(_op(_RET, _ALLOW))
    return b"".join(code)


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def install(code: bytes) -> None:
    """On this process and all that it starts; it must have given up gaining privileges. Raises OSError."""
    program = _Program(len(code) // INSTRUCTION, code)
    kernel.prctl(_PR_SET_SECCOMP, _MODE_FILTER, ctypes.addressof(program))
