"""Files: to read what is the host's, to leave something on it, to get at it through links, handles and devices."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import stat
import subprocess
from pathlib import Path

from pilothouse.adapters.sandboxes.escape import calls
from pilothouse.adapters.sandboxes.escape.ground import (
    Check,
    Ground,
    content,
    failed,
    first,
    pids,
    refused,
    sure,
)

_CHARACTERS = {(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 2)}
"""null zero full random urandom tty ptmx."""
_PTS = range(136, 144)
_STREAMS = (0, 1, 2)
_DESCRIPTORS = 4096
"""As many as a session may have without asking for more."""
_PROGRAMS = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/lib", "/usr/libexec")
_MAX_PROGRAMS = 20_000
"""Entries of `/usr` that are looked at for set-uid bits."""


def _leaks(ground: Ground, path: str | Path) -> str:
    return f"{Path(path).name} of the host was read" if ground.secret in content(path) else ""


def reads(what: str) -> Check:
    """Opens a canary by its path; the same code reads a file of its own."""

    def check(ground: Ground) -> str:
        own = ground.own("own")
        own.write_bytes(ground.secret)
        sure(_leaks(ground, own), "reads its own file")
        own.unlink()
        return _leaks(ground, ground.files[what])

    return check


def _through_processes(ground: Ground, link: str) -> str:
    """The canary through every process's view of the files."""
    own = ground.own(link)
    own.write_bytes(ground.secret)
    inside = str(own) if link == "root" else own.name
    os.chdir(ground.root)
    sure(_leaks(ground, f"/proc/{os.getpid()}/{link}/{inside}"), "reads its own file through /proc")
    own.unlink()
    canary = ground.files["database"]
    here = canary if link == "root" else Path(canary).name
    return first(*(_leaks(ground, f"/proc/{pid}/{link}/{here}") for pid in {*pids(), ground.pid}))


def _procroot(ground: Ground) -> str:
    return _through_processes(ground, "root")


def _proccwd(ground: Ground) -> str:
    return _through_processes(ground, "cwd")


def _symlink_read(ground: Ground) -> str:
    own, link = ground.own("target"), ground.own("read")
    own.write_bytes(ground.secret)
    found = []
    for target in (str(own), ground.files["database"], ground.files["world"]):
        link.symlink_to(target)
        found.append(_leaks(ground, link))
        link.unlink()
    own.unlink()
    sure(found[0], "reads through a link to its own file")
    return first(*found[1:])


def _append(path: str | Path) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_APPEND))


def _symlink_write(ground: Ground) -> str:
    """What is written is a mark on a file that was planted for it; whoever planted it looks as well."""
    link, own = ground.own("write"), ground.own("written")
    for target in (str(own), ground.files["victim"]):
        link.symlink_to(target)
        with contextlib.suppress(OSError), link.open("ab") as file:
            file.write(b"x")
        link.unlink()
    sure(content(own) == b"x", "writes through a link to its own file")
    own.unlink()
    return failed("a file of the host can be written", _append, ground.files["victim"])


def _hardlink(ground: Ground) -> str:
    own, link = ground.own("original"), ground.own("hard")
    own.write_bytes(b"x")
    link.hardlink_to(own)
    sure(content(link) == b"x", "links its own file")
    link.unlink()
    own.unlink()

    names = [*ground.files.values(), "/etc/passwd", "/usr/bin/env"]
    return first(
        *(failed(f"{Path(name).name} was linked into the workspace", link.hardlink_to, name) for name in names)
    )


def _make(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    Path(path).unlink()


def _write_sys(ground: Ground) -> str:
    _make(str(ground.own("made")))
    places = ["/", "/usr", "/usr/bin", "/usr/lib", "/etc", "/var", "/opt/pilothouse/app/pilothouse", "/dev", "/proc"]
    name = f"escape-{ground.id}"
    return first(*(failed(f"a file was made in {place}", _make, f"{place}/{name}") for place in places))


def _append_passwd(ground: Ground) -> str:
    """Opened only; nothing is written."""
    names = ["/etc/passwd", "/etc/group", "/etc/shadow", "/etc/ld.so.cache", "/etc/profile", "/usr/bin/env"]
    names += ["/opt/pilothouse/app/pilothouse/__init__.py"]
    sure(Path("/etc/passwd").exists(), "/etc/passwd is there")
    return first(*(failed(f"{name} opens for writing", _append, name) for name in names))


def _chmod_sys(ground: Ground) -> str:
    """To the mode that they have: harmless even where it works."""
    own = ground.own("mode")
    own.write_bytes(b"")
    own.chmod(0o600)
    own.unlink()
    names = [n for n in ("/", "/usr", "/usr/bin/env", "/etc", "/etc/passwd", "/dev", "/proc/sys") if Path(n).exists()]
    return first(
        *(failed(f"chmod {name}", Path(name).chmod, stat.S_IMODE(Path(name).stat().st_mode)) for name in names)
    )


def inherited_fds() -> str:
    """Descriptors that the suite was started with: standard streams that lead nowhere, and no other."""
    for number in range(_DESCRIPTORS):
        try:
            found = os.fstat(number)
        except OSError:
            continue
        null = stat.S_ISCHR(found.st_mode) and found.st_rdev == Path(os.devnull).stat().st_rdev
        if number not in _STREAMS or not (null or stat.S_ISFIFO(found.st_mode)):
            return f"descriptor {number} is open ({stat.filemode(found.st_mode)})"
    return ""


def _open_by_handle(ground: Ground) -> str:
    """A handle names a file below any mount of a file system, also outside of what is visible."""
    handle = bytearray(8 + 128)
    handle[0] = 128
    buffer = (ctypes.c_char * len(handle)).from_buffer(handle)
    mount_id = ctypes.create_string_buffer(8)
    here = os.open(ground.root, os.O_RDONLY | os.O_DIRECTORY)
    with contextlib.suppress(OSError):  # where it is allowed, what it gave is used
        calls.by_name("name_to_handle_at", here, b"\0", buffer, mount_id, 0x1000)
    return refused("a file was opened by handle", calls.by_name, "open_by_handle_at", here, buffer, os.O_RDONLY)


def _devnodes(ground: Ground) -> str:
    sure(Path("/dev/null").is_char_device(), "/dev/null is there")
    for directory, _, names in os.walk("/dev"):
        for name in names:
            path = Path(directory, name)
            try:
                found = path.stat()
            except OSError:
                continue
            number = (os.major(found.st_rdev), os.minor(found.st_rdev))
            known = number in _CHARACTERS or number[0] in _PTS
            if stat.S_ISBLK(found.st_mode) or (stat.S_ISCHR(found.st_mode) and not known):
                return f"the device {path} is there"
    return ""


def _mknod(ground: Ground) -> str:
    os.mkfifo(ground.own("fifo"))
    ground.own("fifo").unlink()
    kinds = {"the disk": (stat.S_IFBLK, 8, 0), "memory": (stat.S_IFCHR, 1, 1), "null": (stat.S_IFCHR, 1, 3)}

    def make(place: str, kind: int, major: int, minor: int) -> None:
        path = Path(place, f"escape-{ground.id}")
        os.mknod(path, kind | 0o666, os.makedev(major, minor))
        try:
            os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        finally:
            path.unlink()

    return first(
        *(
            failed(f"a device for {name} was made in {place} and opened", make, place, *kind)
            for place in ground.writable
            for name, kind in kinds.items()
        )
    )


def _setuid(ground: Ground) -> str:
    """Twice shut: no process gains privileges, and no mount honours the bit. Without mounts of its own, once."""
    seen = 0
    for top in () if ground.reduced else _PROGRAMS:
        for directory, _, names in os.walk(top):
            seen += len(names)
            for name in names if seen < _MAX_PROGRAMS else ():
                path = os.path.join(directory, name)  # noqa: PTH118  many of them
                mode = os.lstat(path).st_mode
                if stat.S_ISREG(mode) and mode & (stat.S_ISUID | stat.S_ISGID) and not _nosuid(path):
                    return f"{path} would run with its owner's rights"
    return "" if calls.no_new_privs() else "set-uid programs gain privileges"


def _nosuid(path: str) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_NOSUID)


def _setuid_ws(ground: Ground) -> str:
    """A program of one's own with the bit set: it must change nothing, here and for whoever runs it on the host."""
    program = ground.own("id")
    shutil.copyfile("/usr/bin/id", program)
    program.chmod(0o6755)
    done = subprocess.run([str(program), "-u"], capture_output=True, text=True, check=False)  # noqa: S603
    program.unlink()
    sure(done.returncode == 0, "runs a program of its own")
    if int(done.stdout) != os.getuid():
        return "a set-uid program of the workspace changed the uid"
    if ground.reduced:  # the host's mounts: then at least nobody else may come to it
        return "others may run programs of the workspace" if Path(ground.root).stat().st_mode & 0o077 else ""
    return first(*("" if _nosuid(place) else f"{place} honours set-uid bits" for place in ground.writable))


CHECKS: dict[str, Check] = {
    "fs.db": reads("database"),
    "fs.secrets": reads("secrets"),
    "fs.world": reads("world"),
    "fs.shadow": lambda _: failed("/etc/shadow was read", content_of, "/etc/shadow"),
    "fs.roothome": reads("home"),
    "fs.procroot": _procroot,
    "fs.proccwd": _proccwd,
    "fs.symlink_read": _symlink_read,
    "fs.symlink_write": _symlink_write,
    "fs.hardlink": _hardlink,
    "fs.write_sys": _write_sys,
    "fs.append_passwd": _append_passwd,
    "fs.chmod_sys": _chmod_sys,
    "fs.open_by_handle": _open_by_handle,
    "fs.devnodes": _devnodes,
    "fs.mknod": _mknod,
    "fs.setuid": _setuid,
    "fs.setuid_ws": _setuid_ws,
}


def content_of(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(1)
