"""The kernel: its settings, its memory, its mounts and namespaces, and calls that have let people out before."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import struct
from collections.abc import Callable
from pathlib import Path

from pilothouse.adapters.sandboxes import kernel
from pilothouse.adapters.sandboxes.escape import calls
from pilothouse.adapters.sandboxes.escape.ground import (
    Check,
    Ground,
    NotApplicable,
    content,
    failed,
    first,
    pids,
    refused,
    sure,
)

_SETTINGS = Path("/proc/sys")
_NAMESPACES = {
    "mnt": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "time": 0x00000080,
}
_MEMORY = ("/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port", "/dev/crash", "/proc/kpagecount", "/proc/kpageflags")
_CHILD_ENDS_WITH = int(signal.SIGCHLD)
_ADDR_NO_RANDOMIZE, _READ_IMPLIES_EXEC = 0x0040000, 0x0400000
_X32 = 0x40000000
_GETPID_X86_64, _GETPID_I386 = 39, 20


def _opens(path: str | Path, flags: int) -> Callable[[], None]:
    return lambda: os.close(os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY))


def _procsys(ground: Ground) -> str:
    """Every setting is opened for writing; nothing is written."""
    sure((_SETTINGS / "kernel/core_pattern").exists(), "the kernel's settings are there")
    for directory, _, names in os.walk(_SETTINGS):
        for name in names:
            path = os.path.join(directory, name)  # noqa: PTH118  a thousand of them
            if failed("open", _opens(path, os.O_WRONLY)):
                return f"{path} opens for writing"
    return ""


def _sysrq(ground: Ground) -> str:
    names = ("/proc/sysrq-trigger", "/proc/acpi/wakeup", "/proc/bus/pci", "/proc/irq", "/proc/fs", "/proc/mtrr")
    found = []
    for top in names:
        found.append(failed(f"{top} opens for writing", _opens(top, os.O_WRONLY)))
        for directory, _, files in os.walk(top):
            found += [
                failed(f"{directory}/{f} opens for writing", _opens(f"{directory}/{f}", os.O_WRONLY)) for f in files
            ]
    return first(*found)


def _sysfs(ground: Ground) -> str:
    """Either absent, or nothing of it can be written."""
    own = ground.own("sysfs")
    own.write_bytes(b"")
    _opens(own, os.O_WRONLY)()
    own.unlink()
    for top in ("/sys/kernel", "/sys/power", "/sys/firmware", "/sys/fs", "/sys/module", "/sys/devices"):
        for directory, _, names in os.walk(top):
            for name in names:
                path = f"{directory}/{name}"
                if failed("open", _opens(path, os.O_WRONLY)):
                    return f"{path} opens for writing"
    return ""


def _reads(path: str) -> Callable[[], None]:
    def attack() -> None:
        with Path(path).open("rb", buffering=0) as file:
            if not file.read(1):
                raise OSError(errno.ENODATA, "empty")

    return attack


def _kcore(ground: Ground) -> str:
    _reads("/proc/self/status")()
    return first(*(failed(f"{path} was read", _reads(path)) for path in _MEMORY))


def _kallsyms(ground: Ground) -> str:
    """Addresses of the kernel, and what it logs."""
    rows = content("/proc/kallsyms").splitlines()
    if any(row.split()[0].strip(b"0") for row in rows[:100] if row.split()):
        return "addresses of the kernel are told"
    names = ("/dev/kmsg", "/proc/kmsg", "/proc/timer_list", "/proc/sched_debug", "/proc/keys", "/proc/latency_stats")
    return first(
        *(failed(f"{name} was read", _reads(name)) for name in names),
        failed("the kernel's log was read", calls.by_name, "syslog", 3, ctypes.create_string_buffer(100), 100),
    )


def _place(ground: Ground, name: str) -> str:
    path = ground.own(name)
    path.mkdir(exist_ok=True)
    return str(path)


def _mount(ground: Ground) -> str:
    place = _place(ground, "mount")
    kinds = ("tmpfs", "proc", "sysfs", "devtmpfs", "cgroup2", "overlay", "fuse", "ext4")
    found = [refused(f"{kind} was mounted", calls.mount, "none", place, kind, 0) for kind in kinds]
    found.append(refused("/ was bound", calls.mount, "/", place, "none", kernel.MS_BIND | kernel.MS_REC))
    Path(place).rmdir()
    return first(*found)


def _remount(ground: Ground) -> str:
    flags = kernel.MS_REMOUNT | kernel.MS_BIND
    places = [p for p in ("/", "/usr", "/etc", "/proc", "/proc/sys", "/dev", ground.root) if Path(p).exists()]
    return first(*(refused(f"{place} was remounted", calls.mount, "none", place, "none", flags) for place in places))


def _umount(ground: Ground) -> str:
    places = ["/proc/sys", "/proc/kcore", "/proc", "/etc", "/usr", ground.root, "/dev/shm", "/"]  # noqa: S108
    found = [refused(f"{place} was unmounted", calls.umount, place) for place in places if Path(place).exists()]
    pivot = refused("the root was exchanged", calls.by_name, "pivot_root", b".\0", b".\0")
    return first(*found, pivot)


def _chroot(ground: Ground) -> str:
    return refused("the root directory was changed", os.chroot, ground.root)


def _newmountapi(ground: Ground) -> str:
    here, size = -100, 64
    empty = ctypes.create_string_buffer(size)
    return first(
        refused("fsopen", calls.by_name, "fsopen", b"tmpfs\0", 0),
        refused("open_tree cloned /", calls.by_name, "open_tree", here, b"/\0", 1),
        refused("fspick", calls.by_name, "fspick", here, b"/\0", 0),
        refused("move_mount", calls.by_name, "move_mount", here, b"/usr\0", here, b".\0", 0),
        refused("mount_setattr", calls.by_name, "mount_setattr", here, b"/\0", 0, empty, 32),
    )


def _clone(flags: int) -> None:
    """A child in new namespaces, by the bare call; it ends at once."""
    pid = calls.by_name("clone", flags | _CHILD_ENDS_WITH, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _clone3(flags: int) -> None:
    arguments = struct.pack("<11Q", flags, 0, 0, 0, _CHILD_ENDS_WITH, *[0] * 6)
    pid = calls.by_name("clone3", ctypes.create_string_buffer(arguments), len(arguments))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _userns(ground: Ground) -> str:
    """And every other kind of namespace, by all three calls."""
    plain = os.fork()
    if plain == 0:
        os._exit(0)
    sure(os.waitpid(plain, 0)[1] == 0, "a child can be made")
    found = []
    for name, flag in _NAMESPACES.items():
        for call, attack in (("clone", _clone), ("clone3", _clone3)):
            found.append(refused(f"a {name} namespace was made by {call}", attack, flag))
        found.append(refused(f"a {name} namespace was made by unshare", kernel.unshare, flag))
    return first(*found)


def _setns(ground: Ground) -> str:
    """Into the namespaces of whoever can be seen; one's own as well, where a right to enter would do."""

    def enter(path: str, kind: int) -> None:
        fd = os.open(path, os.O_RDONLY)
        try:
            kernel.setns(fd, kind)
        finally:
            os.close(fd)

    found = [failed(f'{name} namespace of {pid} was entered', enter, f'/proc/{pid}/ns/{name}', flag)
             for pid in {*pids(), ground.pid} for name, flag in _NAMESPACES.items()]  # fmt: skip
    handle = os.pidfd_open(ground.pid if ground.reduced else 1)
    found.append(failed("the namespaces of another process were entered", kernel.setns, handle, kernel.CLONE_NEWNS))
    return first(*found)


def _bpf(ground: Ground) -> str:
    arguments = ctypes.create_string_buffer(struct.pack("<4I", 2, 4, 4, 1), 128)
    return refused("a BPF map was made", calls.by_name, "bpf", 0, arguments, 128)


def _perf(ground: Ground) -> str:
    software_clock = struct.pack("<IIQQQQQ", 1, 112, 0, 0, 0, 0, 1 << 5 | 1 << 6)
    attributes = ctypes.create_string_buffer(software_clock, 112)
    own = refused("an event of its own was opened", calls.by_name, "perf_event_open", attributes, 0, -1, -1, 0)
    all_of = refused("a processor was profiled", calls.by_name, "perf_event_open", attributes, -1, 0, -1, 0)
    return first(own, all_of)


def _userfaultfd(ground: Ground) -> str:
    found = [refused("userfaultfd was made", calls.by_name, "userfaultfd", flags) for flags in (0, 1)]
    return first(*found, failed("/dev/userfaultfd opens", _opens("/dev/userfaultfd", os.O_RDWR)))


def _io_uring(ground: Ground) -> str:
    return refused("io_uring was set up", calls.by_name, "io_uring_setup", 1, ctypes.create_string_buffer(120))


def _keyring(ground: Ground) -> str:
    """Keys belong to a uid, whatever the namespace: what one session puts there another could read."""
    join, get_id, session, user = 1, 0, -3, -4
    name = b"pilothouse-escape\0"
    return first(
        refused("a key was added", calls.by_name, "add_key", b"user\0", name, b"x", 1, user),
        refused("a keyring was joined", calls.by_name, "keyctl", join, 0, 0, 0, 0),
        refused("the keyring is reachable", calls.by_name, "keyctl", get_id, session, 1, 0, 0),
        refused("a key was asked for", calls.by_name, "request_key", b"user\0", name, 0, 0),
    )


def _modules(ground: Ground) -> str:
    """With arguments that load nothing, were it allowed."""
    return first(
        refused("init_module", calls.by_name, "init_module", 0, 0, b"\0"),
        refused("finit_module", calls.by_name, "finit_module", -1, b"\0", 0),
        refused("delete_module", calls.by_name, "delete_module", b"pilothouse_none\0", 0),
        refused("kexec_file_load", calls.by_name, "kexec_file_load", -1, -1, 0, b"\0", 7),
    )


def _compat32(ground: Ground) -> str:
    """Calls by another numbering, round a filter of numbers: int 0x80 of 32-bit programs, and x32."""
    if os.uname().machine != "x86_64":
        raise NotApplicable("this machine has one numbering of calls")
    # push rbx; mov eax, N; int 0x80; pop rbx; ret  -- and the same by syscall, which must work
    old = b"\x53\xb8" + struct.pack("<I", _GETPID_I386) + b"\xcd\x80\x5b\xc3"
    new = b"\x53\xb8" + struct.pack("<I", _GETPID_X86_64) + b"\x0f\x05\x5b\xc3"
    sure(_machine_code(new), "machine code of its own runs")
    if _machine_code(old):
        return "calls of 32-bit programs are served"
    return refused("calls of x32 programs are served", calls.by_number, _X32 | _GETPID_X86_64)


def _machine_code(code: bytes) -> bool:
    """Whether it tells a process its number; in a child, which it may kill."""
    child = os.fork()
    if child == 0:
        page = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        page.write(code)
        function = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
        os._exit(0 if function() == os.getpid() else 1)
    return os.waitpid(child, 0)[1] == 0


def _personality(ground: Ground) -> str:
    sure(calls.personality(0xFFFFFFFF) >= 0, "reading it is allowed")
    return first(
        refused("addresses are no longer random", calls.personality, _ADDR_NO_RANDOMIZE),
        refused("data became code", calls.personality, _READ_IMPLIES_EXEC),
    )


CHECKS: dict[str, Check] = {
    "k.procsys": _procsys,
    "k.sysrq": _sysrq,
    "k.sysfs": _sysfs,
    "k.kcore": _kcore,
    "k.kallsyms": _kallsyms,
    "k.mount": _mount,
    "k.remount": _remount,
    "k.umount": _umount,
    "k.chroot": _chroot,
    "k.newmountapi": _newmountapi,
    "k.userns": _userns,
    "k.setns": _setns,
    "k.bpf": _bpf,
    "k.perf": _perf,
    "k.userfaultfd": _userfaultfd,
    "k.io_uring": _io_uring,
    "k.keyring": _keyring,
    "k.modules": _modules,
    "k.compat32": _compat32,
    "k.personality": _personality,
}
