"""The filter, executed here by a small machine of our own; the kernel executes it in test_bubblewrap."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

import pytest

from pilothouse.adapters.sandboxes import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
BOTH = pytest.mark.parametrize("machine", sorted(seccomp.MACHINES))


ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
NUMBERS = {
    # name: (x86_64, aarch64), from the kernel's tables, not from ours
    "read": (0, 63), "write": (1, 64), "openat": (257, 56), "execve": (59, 221), "mmap": (9, 222), "futex": (202, 98),
    "clone": (56, 220), "clone3": (435, 435), "mount": (165, 40), "umount2": (166, 39), "pivot_root": (155, 41),
    "chroot": (161, 51), "unshare": (272, 97), "setns": (308, 268), "keyctl": (250, 219), "add_key": (248, 217),
    "request_key": (249, 218), "syslog": (103, 116), "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264),
    "kexec_load": (246, 104), "kexec_file_load": (320, 294), "init_module": (175, 105), "finit_module": (313, 273),
    "delete_module": (176, 106), "swapon": (167, 224), "swapoff": (168, 225), "reboot": (169, 142),
    "quotactl": (179, 60), "quotactl_fd": (443, 443), "acct": (163, 89), "settimeofday": (164, 170),
    "clock_settime": (227, 112), "clock_adjtime": (305, 266), "adjtimex": (159, 171), "kcmp": (312, 272),
    "mbind": (237, 235), "set_mempolicy": (238, 237), "get_mempolicy": (239, 236), "migrate_pages": (256, 238),
    "move_pages": (279, 239), "lookup_dcookie": (212, 18), "nfsservctl": (180, 42), "vhangup": (153, 58),
    "fanotify_init": (300, 262), "bpf": (321, 280), "userfaultfd": (323, 282), "perf_event_open": (298, 241),
    "open_tree": (428, 428), "move_mount": (429, 429), "fsopen": (430, 430), "fsmount": (432, 432),
    "mount_setattr": (442, 442), "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "ioctl": (16, 29),
    "socket": (41, 198), "socketpair": (53, 199), "personality": (135, 92), "ptrace": (101, 117),
    "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438), "shmget": (29, 194),
    "shmat": (30, 196), "shmctl": (31, 195), "semget": (64, 190), "semop": (65, 193), "semctl": (66, 191),
    "semtimedop": (220, 192), "msgget": (68, 186), "msgsnd": (69, 189), "msgrcv": (70, 188), "msgctl": (71, 187),
    "mq_open": (240, 180), "mq_unlink": (241, 181), "inotify_add_watch": (254, 27),
    "prlimit64": (302, 261), "connect": (42, 203), "kill": (62, 129),
}  # fmt: skip
COLUMN = {"x86_64": 0, "aarch64": 1}


def verdict(machine: str, call: str | int, *args: int, arch: int | None = None, alone: bool = False) -> int:
    number = NUMBERS[call][COLUMN[machine]] if isinstance(call, str) else call
    padded = [*args, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number, ARCH[machine] if arch is None else arch, 0, *padded)
    code = list(struct.iter_unpack("<HBBI", seccomp.program(machine, alone=alone)))
    at, held = 0, 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:
            (held,) = struct.unpack_from("<I", data, k)
        elif op == 0x54:
            held &= k
        elif op == 0x06:
            return int(k)
        else:
            taken = {0x15: held == k, 0x35: held >= k, 0x45: bool(held & k)}[op]
            at += yes if taken else no


@BOTH
def test_ordinary_calls_pass(machine: str) -> None:
    numbers = seccomp.MACHINES[machine].numbers.values()
    assert all(verdict(machine, n) == ALLOW for n in range(500) if n not in numbers)


@BOTH
def test_a_foreign_architecture_is_killed(machine: str) -> None:
    assert verdict(machine, 1, arch=0x40000003) == KILL


def test_x32_numbers_are_no_way_round() -> None:
    assert verdict("x86_64", 0x40000000 | 165) == ENOSYS


@BOTH
@pytest.mark.parametrize("call", ["clone3", "io_uring_setup", "bpf", "userfaultfd", "fsopen", "open_tree"])
def test_what_programs_can_do_without_is_absent(machine: str, call: str) -> None:
    assert verdict(machine, call) == ENOSYS


@BOTH
@pytest.mark.parametrize("call", ["mount", "unshare", "setns", "keyctl", "open_by_handle_at", "chroot", "kexec_load"])
def test_what_reaches_the_host_is_denied(machine: str, call: str) -> None:
    assert verdict(machine, call) == EPERM


@BOTH
def test_clone_makes_threads_but_no_namespaces(machine: str) -> None:
    assert verdict(machine, "clone", 0x3D0F00) == ALLOW
    for flag in (0x80, 0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict(machine, "clone", 0x3D0F00 | flag) == EPERM


@BOTH
def test_terminal_input_cannot_be_pushed_even_with_high_bits(machine: str) -> None:
    assert verdict(machine, "ioctl", 1, 0x5412) == EPERM
    assert verdict(machine, "ioctl", 1, 0x5412 | 1 << 32) == EPERM
    assert verdict(machine, "ioctl", 1, 0x541C) == EPERM
    assert verdict(machine, "ioctl", 1, 0x5413) == ALLOW


@BOTH
def test_socket_families(machine: str) -> None:
    assert [f for f in range(64) if verdict(machine, "socket", f) == ALLOW] == [1, 2, 10, 16]


@BOTH
def test_personality_can_be_read_only(machine: str) -> None:
    assert verdict(machine, "personality", 0xFFFFFFFF) == ALLOW
    assert verdict(machine, "personality", 0x0040000) == EPERM


ABSENT = (
    "clone3", "bpf", "userfaultfd", "perf_event_open", "open_tree", "move_mount", "fsopen", "fsmount", "mount_setattr",
    "io_uring_setup", "io_uring_enter",
)  # fmt: skip
NORMAL = ("read", "write", "openat", "execve", "mmap", "futex", "connect", "kill")
ALONE = (
    "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "shmget", "shmat", "shmctl", "semget", "semop",
    "semctl", "semtimedop", "msgget", "msgsnd", "msgrcv", "msgctl", "mq_open", "mq_unlink",
    "inotify_add_watch",
)  # fmt: skip
BY_ARGUMENT = ("clone", "ioctl", "socket", "socketpair", "personality", "prlimit64")


@BOTH
@pytest.mark.parametrize("alone", [False, True])
def test_every_call_by_the_kernels_own_number(machine: str, alone: bool) -> None:
    for call in NUMBERS:
        if call in BY_ARGUMENT:
            continue
        expected = ALLOW if call in NORMAL else ENOSYS if call in ABSENT else EPERM
        if call in ALONE and not alone:
            expected = ALLOW
        assert verdict(machine, call, alone=alone) == expected, call


@BOTH
def test_without_namespaces_only_connected_unix_sockets_are_left(machine: str) -> None:
    refused = 0x50000 | errno.EAFNOSUPPORT
    cloexec, nonblock = 0o2000000, 0o4000
    for call in ("socket", "socketpair"):
        for family in range(64):
            assert verdict(machine, call, family, 1, alone=True) == (ALLOW if family == 1 else refused)
        for kind in range(16):
            expected = ALLOW if kind in {1, 5} else EPERM
            assert verdict(machine, call, 1, kind | cloexec | nonblock, alone=True) == expected
            assert verdict(machine, call, 1 | 1 << 32, kind | 1 << 40, alone=True) == expected


@BOTH
def test_without_namespaces_no_socket_lists_interfaces_and_nobody_elses_limits_change(machine: str) -> None:
    for request, expected in ((0x8910, EPERM), (0x8912, EPERM), (0x89FF | 1 << 32, EPERM), (0x5412, EPERM)):
        assert verdict(machine, "ioctl", 3, request, alone=True) == expected
    for request in (0x5401, 0x541B, 0x8905, 0x8A00, 0x5413):
        assert verdict(machine, "ioctl", 3, request, alone=True) == ALLOW
    assert verdict(machine, "prlimit64", 0, alone=True) == ALLOW
    assert verdict(machine, "prlimit64", 1234, alone=True) == EPERM
    assert verdict(machine, "prlimit64", 1234) == ALLOW


@BOTH
@pytest.mark.parametrize("alone", [False, True])
def test_a_program_as_the_kernel_demands_it(machine: str, alone: bool) -> None:
    """Known instructions, aligned loads inside the data, jumps that stay inside, a return at the end."""
    code = list(struct.iter_unpack("<HBBI", seccomp.program(machine, alone=alone)))
    assert len(code) <= 4096
    assert code[-1][0] == 0x06
    for at, (op, yes, no, k) in enumerate(code):
        assert op in {0x20, 0x15, 0x35, 0x45, 0x54, 0x06}
        if op == 0x20:
            assert k % 4 == 0
            assert k < 64
        if op in {0x15, 0x35, 0x45}:
            assert at + 1 + max(yes, no) < len(code)
        if op == 0x06:
            assert k in {ALLOW, KILL} or (k & 0xFFFF0000 == 0x50000 and 0 < k & 0xFFFF < 4096)


def test_no_two_calls_share_a_number() -> None:
    for about in seccomp.MACHINES.values():
        assert len(set(about.numbers.values())) == len(about.numbers)


@pytest.mark.parametrize("alone", [False, True])
def test_this_kernel_takes_it(alone: bool) -> None:
    """Loaded by a child of its own, which then tries two calls."""
    code = seccomp.program(platform.machine(), alone=alone)

    class Program(ctypes.Structure):
        _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_char_p))

    libc = ctypes.CDLL(None, use_errno=True)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            program = Program(len(code) // 8, code)
            libc.prctl(38, 1, 0, 0, 0)
            loaded = libc.prctl(22, 2, ctypes.byref(program), 0, 0) == 0
            denied = libc.unshare(0x10000000) < 0 and ctypes.get_errno() == errno.EPERM
            inet = libc.socket(2, 1, 0)
            status = 0 if loaded and denied and (inet < 0) == alone else 2
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(KeyError):
        seccomp.program("vax")
