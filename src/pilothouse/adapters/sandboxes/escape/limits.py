"""Limits: bounded bombs. Each takes more than a session may have, but no more than it takes to see that.

Where a limit is named, the bomb is a little larger than it; the constants are for where none is. A bomb that a small
machine could not bear where nothing held it is not set off.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import resource
import select
import signal
import stat
import threading
import time
from pathlib import Path

from pilothouse.adapters.sandboxes.escape.ground import Check, Ground, NotApplicable, content, failed, first, sure

GIB = 1 << 30
MIB = 1 << 20
PROCESSES = 2000
MEMORY = 3 * GIB
FORKS = 12
"""Processes that share the memory bomb: none alone is over the limit."""
DISK = 3 * GIB // 2
FILES = 60_000
OPEN_FILES = 200_000
CPU_S = 3.0
CPUS = 1.0
"""What a session may use where nothing is said."""
_OVER = 1.25
_CPU_OVER = 1.2
_SPARE = GIB
"""What must be left of memory or disk for everybody else, were the bomb not held."""
_PIECE = 16 * MIB
_PATIENCE_S = 40.0


def _more_than(ground: Ground, name: str, otherwise: int) -> int:
    """A quarter more than the limit; `otherwise` where there is none."""
    return int(ground.limits[name] * _OVER) if name in ground.limits else otherwise


def _fork(ground: Ground) -> str:
    wanted = _more_than(ground, "processes", PROCESSES)
    for made in range(wanted):
        try:
            child = os.fork()
        except OSError:
            sure(made, "a process can be made")
            return ""
        if child == 0:
            signal.pause()
    return f"{wanted} processes ran at one time"


def _threads(ground: Ground) -> str:
    wanted = _more_than(ground, "processes", PROCESSES)
    forever = threading.Event()
    threading.stack_size(64 * 1024)
    for made in range(wanted):
        try:
            threading.Thread(target=forever.wait, daemon=True).start()
        except RuntimeError:
            sure(made, "a thread can be made")
            return ""
    return f"{wanted} threads ran at one time"


def _bearable(ground: Ground, size: int) -> None:
    """Raises NotApplicable where the machine could not give that much."""
    rows = dict(row.split(b":", 1) for row in content("/proc/meminfo").splitlines() if b":" in row)
    available = int(rows.get(b"MemAvailable", b"0 kB").split()[0]) * 1024
    if available < size + _SPARE:
        raise NotApplicable(f"the machine has too little free memory to try it with {size / GIB:.1f} GiB")


def _touch(size: int) -> list[mmap.mmap]:
    """That much memory, really used. Private: the kernel takes it back at once from what it kills, shared memory only
    later, and until then it would kill others of the session."""
    page, held = b"\1" * _PIECE, []
    for _ in range(size // _PIECE):
        piece = mmap.mmap(-1, _PIECE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        piece.write(page)
        held.append(piece)
    return held


def _mem(ground: Ground) -> str:
    """Being killed for it is the way to be refused."""
    size = _more_than(ground, "memory", MEMORY)
    _bearable(ground, size)
    sure(_touch(_PIECE), "some memory can be used")
    _touch(size)
    return f"a process used {size / GIB:.1f} GiB"


def _memfork(ground: Ground) -> str:
    size = _more_than(ground, "memory", MEMORY)
    _bearable(ground, size)
    out, into = os.pipe()
    children = []
    for _ in range(FORKS):
        child = os.fork()
        if child == 0:
            held = _touch(size // FORKS)
            os.write(into, b"x")
            signal.pause()
            del held
        children.append(child)
    ready, end = 0, time.monotonic() + _PATIENCE_S
    while ready < FORKS and time.monotonic() < end:
        if os.waitpid(-1, os.WNOHANG)[0]:
            return ""  # one was killed for it
        if select.select([out], [], [], 0.05)[0]:
            ready += len(os.read(out, FORKS))
    return f"{ready} processes used {size * ready / FORKS / GIB:.1f} GiB together"


def _fill(path: Path, size: int) -> None:
    """A file of that size with its blocks reserved; where the file system cannot reserve, they are written."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        _grow(fd, size)
    finally:
        os.close(fd)
        path.unlink()


def _grow(fd: int, size: int) -> None:
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as error:
        if error.errno not in {errno.EOPNOTSUPP, errno.EINVAL}:
            raise
        piece = b"\1" * _PIECE
        for _ in range(size // _PIECE):
            os.write(fd, piece)


def _filled(ground: Ground, place: str, size: int) -> str:
    """Reserving or writing too much in `place`; a little must work."""
    path = Path(place, f".escape-{ground.id}-fill")
    _fill(path, MIB)
    return failed(f"{size / GIB:.1f} GiB fit into {place}", _fill, path, size)


def _disk(ground: Ground) -> str:
    places = (ground.root, ground.home)
    size = _more_than(ground, "disk", DISK)
    for place in places:
        found = os.statvfs(place)
        if found.f_bavail * found.f_frsize < DISK + _SPARE and found.f_blocks * found.f_frsize > size:
            raise NotApplicable(f"the host's disk has too little space left to try it with {size / GIB:.1f} GiB")
    return first(*(_filled(ground, place, size) for place in places))


def _tmp(ground: Ground) -> str:
    if ground.reduced:
        raise NotApplicable("temporary files are on the session's disk")
    sizes = {ground.tmp: _more_than(ground, "tmp", DISK), "/run": _more_than(ground, "run", DISK)}
    return first(*(_filled(ground, place, size) for place, size in sizes.items()))


def _shm(ground: Ground) -> str:
    if ground.reduced:
        raise NotApplicable("there is no shared memory")
    return _filled(ground, "/dev/shm", _more_than(ground, "shm", DISK))  # noqa: S108


def _dev(ground: Ground) -> str:
    """`/dev` is in memory too."""
    path = Path(ground.tmp, f".escape-{ground.id}-dev")
    _fill(path, MIB)
    return first(*(failed(f"a file was made in {p}", _fill, Path(p, path.name), MIB) for p in ("/dev", "/dev/pts")))


def _inodes(ground: Ground) -> str:
    """The files are made; where more than those are allowed, the size of the table tells how many more."""
    place = ground.own("files")
    place.mkdir()
    directory = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    limit = ground.limits.get("files", 0)
    for n in range(min(FILES, int(limit * _OVER) or FILES)):
        try:
            os.mknod(f"{n:x}", stat.S_IFREG | 0o600, dir_fd=directory)
        except OSError:
            sure(n, "a file can be made")
            return ""
    table = os.statvfs(place).f_files
    return "" if limit > FILES and table <= limit * _OVER else f"{n + 1} files were made, and {table} are possible"


def _busy() -> float:
    """Seconds that all processors of the machine have worked."""
    fields = [int(word) for word in content("/proc/stat").splitlines()[0].split()[1:9]]
    idle, waiting = 3, 4
    worked = sum(fields) - fields[idle] - fields[waiting]
    return worked / os.sysconf("SC_CLK_TCK")


def _spin(count: int) -> float:
    """That many busy processes for CPU_S: the processor time they got."""
    end = time.monotonic() + CPU_S
    children = []
    for _ in range(count):
        child = os.fork()
        if child == 0:
            while time.monotonic() < end:
                pass
            os._exit(0)
        children.append(child)
    for child in children:
        os.waitpid(child, 0)
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _cpu(ground: Ground) -> str:
    """One busy process more than there are processors."""
    allowed = ground.limits.get("cpu", CPUS) * _CPU_OVER
    processors = len(os.sched_getaffinity(0))
    if processors < allowed:
        raise NotApplicable(f"{processors} processors are not more than the limit")
    before = _busy()
    used = _spin(processors + 1)
    others = _busy() - before - used
    sure(used > 0, "processor time is counted")
    if used > allowed * CPU_S:
        return f"{used / CPU_S:.1f} processors were used"
    if processors * CPU_S - others < allowed * CPU_S:
        raise NotApplicable("others leave too little of the processors to tell")
    return ""


def _nofile(ground: Ground) -> str:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES, OPEN_FILES))
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    for n in range(OPEN_FILES):
        try:
            os.open(os.devnull, os.O_RDONLY)
        except OSError:
            sure(n, "a file can be opened")
            return ""
    return f"{OPEN_FILES} files were open at one time"


ROUNDS: tuple[dict[str, Check], ...] = (
    {"l.disk": _disk, "l.tmp": _tmp, "l.shm": _shm},
    {"l.dev": _dev, "l.inodes": _inodes, "l.nofile": _nofile},
    {"l.fork": _fork},
    {"l.threads": _threads},
    {"l.mem": _mem},
    {"l.memfork": _memfork},
    {"l.cpu": _cpu},
)
"""What goes at one time: no bomb shall be held back by what another has taken."""
