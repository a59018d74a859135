"""Loop devices: an image file as a block device, found again by whoever comes later, gone with its last mount.

A file must never be on two devices at once (each would write its own idea of it), so `attached` looks for the one that
has it before it takes a free one. AUTOCLEAR: the kernel lets go when nobody has the device open or mounted.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

_LOOP_CONFIGURE = 0x4C0A
_LOOP_GET_STATUS64 = 0x4C05
_LOOP_CTL_GET_FREE = 0x4C82
_AUTOCLEAR = 4
_INFO = struct.Struct("=5Q4I64s64s32s2Q")
_CONFIG = struct.Struct(f"=2I{_INFO.size}s8Q")
_TRIES = 50
"""Another process may take the device that was free a moment ago."""


def _holds(device: int, image: os.stat_result) -> bool:
    said = bytearray(_INFO.size)
    try:
        fcntl.ioctl(device, _LOOP_GET_STATUS64, said)
    except OSError:  # nothing is attached to it
        return False
    return _INFO.unpack(said)[:2] == (image.st_dev, image.st_ino)


def _of(image: os.stat_result) -> tuple[int, str] | None:
    for entry in Path("/sys/block").glob("loop*/loop"):
        path = f"/dev/{entry.parent.name}"
        with contextlib.suppress(OSError):
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            if _holds(device, image):
                return device, path
            os.close(device)
    return None


def _free(image: int) -> tuple[int, str]:
    info = _INFO.pack(0, 0, 0, 0, 0, 0, 0, 0, _AUTOCLEAR, b"", b"", b"", 0, 0)
    order = _CONFIG.pack(image, 0, info, *[0] * 8)
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_TRIES):
            path = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.ioctl(device, _LOOP_CONFIGURE, order)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise
            else:
                return device, path
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "no loop device is free")


@contextlib.contextmanager
def attached(image: Path, *, fresh: bool = False) -> Iterator[str]:
    """The device that holds the image, `/dev/loopN`, at least until the end of the block. A `fresh` one is on none yet:
    looking through all of them is saved. Raises OSError."""
    fd = os.open(image, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        device, path = (None if fresh else _of(os.fstat(fd))) or _free(fd)
    finally:
        os.close(fd)
    try:
        yield path
    finally:
        os.close(device)


def is_attached(image: Path) -> bool:
    found = _of(image.stat())
    if found:
        os.close(found[0])
    return found is not None
