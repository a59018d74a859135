"""The gaps between a process's objects, filled before it is forked.

CPython keeps objects of one size together in pools of four pages, and puts a new one into the gap that was left last.
After a fork the pages are shared until they are written to: each of a few hundred gaps would cost a child a page of its
own. With no gaps left what a child makes goes to fresh pools, one object after the other.
"""

from __future__ import annotations

from collections.abc import Callable

_POOL = 16 * 1024
"""Of CPython 3.10 and later; with another size, or another allocator, gaps remain or some memory is wasted."""
_HEAD = 48
"""Of a pool, before its first object."""
_GRAIN, _MAX = 16, 512
"""Sizes of objects: multiples, up to the largest that lies in a pool."""
_BYTES = 33
"""What an empty `bytes` takes."""
_BETWEEN = 4
"""So many objects of a pool may be the interpreter's own, made meanwhile."""
_ENOUGH = 4096
"""Objects of one size, should no pool be recognised."""


def fill() -> list[object]:
    """The gaps are filled as long as somebody has what is returned."""
    kept: list[object] = []
    for size in range(_GRAIN, _MAX + 1, _GRAIN):
        _fill(size, _maker(size), kept)
    return kept


def _fill(size: int, make: Callable[[int], object], kept: list[object]) -> None:
    """Until a whole pool has come."""
    whole, pools = (_POOL - _HEAD) // size - _BETWEEN, dict[int, int]()
    for n in range(_ENOUGH):
        one = make(n)
        kept.append(one)
        pool = id(one) // _POOL
        pools[pool] = pools.get(pool, 0) + 1
        if pools[pool] >= whole:
            return


def _maker(size: int) -> Callable[[int], object]:
    if size == _GRAIN:
        return lambda _: object()
    if size == 2 * _GRAIN:
        return lambda n: (1 << 31) + n
    return lambda _: bytes(size - _BYTES)
