"""Read by Python at its start when this directory is on PYTHONPATH: a wall clock that the harness can set.

`time.time` is where every program of ours on the host reads the wall clock (the Clock port). It gets an offset from a
file of eight bytes, which the harness changes while the program runs. The monotonic clock goes on, as it does on a
machine whose time is set.
"""

import mmap
import os
import struct
import time


def _shift(path: str) -> None:
    with open(path, "rb") as file:
        offset = mmap.mmap(file.fileno(), 8, prot=mmap.PROT_READ)
    real, unpack = time.time, struct.Struct("d").unpack_from

    def shifted() -> float:
        return real() + float(unpack(offset)[0])

    time.time = shifted


if os.environ.get("PILOTHOUSE_TEST_CLOCK"):
    _shift(os.environ["PILOTHOUSE_TEST_CLOCK"])
