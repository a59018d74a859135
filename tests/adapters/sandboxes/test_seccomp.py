"""The filter, executed here by a small machine of our own; the kernel executes it in test_bubblewrap."""

from __future__ import annotations

import errno
import struct

import pytest

from pilothouse.adapters.sandboxes import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
EPERM, ENOSYS = 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS
BOTH = pytest.mark.parametrize("machine", sorted(seccomp.MACHINES))


def verdict(machine: str, call: str | int, *args: int, arch: int | None = None) -> int:
    about = seccomp.MACHINES[machine]
    number = about.numbers[call] if isinstance(call, str) else call
    padded = [*args, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number, about.arch if arch is None else arch, 0, *padded)
    code = list(struct.iter_unpack("<HBBI", seccomp.program(machine)))
    at, held = 0, 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:
            (held,) = struct.unpack_from("<I", data, k)
        elif op == 0x06:
            return int(k)
        else:
            taken = {0x15: held == k, 0x35: held >= k, 0x45: bool(held & k)}[op]
            at += yes if taken else no


@BOTH
def test_ordinary_calls_pass(machine: str) -> None:
    numbers = seccomp.MACHINES[machine].numbers.values()
    assert verdict(machine, next(n for n in range(500) if n not in numbers)) == ALLOW


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


def test_a_machine_without_a_table_is_refused() -> None:
    with pytest.raises(KeyError):
        seccomp.program("vax")
