"""How each fault is done. Answers how many were hit: 0 when nobody was there to be hit at that moment."""

from __future__ import annotations

import asyncio
import contextlib
import random
import resource
import signal
import socket
import sqlite3
from collections.abc import Awaitable, Callable

from tests.faults import processes
from tests.faults.house import House
from tests.faults.plan import JUMPS, Fault
from tests.faults.work import Worked

DOWN_S = 0.8
"""How long the server stays away, at most."""
START_S = (0.2, 3.0)
"""A server that is killed while it starts has got so far: importing, opening the store, taking up sessions."""
KEPT_FREE = 4096
LOCK_TRIES_S = 2.0


class Injector:
    def __init__(self, house: House) -> None:
        self._house = house
        self._how: dict[str, Callable[[Fault, Worked, random.Random], Awaitable[int]]] = {
            "disk-full": self._disk_full,
            "store-fails": self._store_fails,
            "store-locked": self._store_locked,
            "link-cut": self._link_cut,
            "model-cut": self._model_cut,
            "clock-jump": self._clock_jump,
        }

    async def __call__(self, fault: Fault, target: Worked, dice: random.Random) -> int:
        verb, _, what = fault.kind.name.partition("-")
        if fault.kind.returns:
            return await self._end_server(fault.kind.name, target, dice)
        if what == "hosts":
            pids = [self._house.keeper(), self._house.proxy()]
            return sum(self._signal(pid, signal.SIGKILL) for pid in pids)
        if verb == "kill":
            return int(self._signal(self._who(what, target), signal.SIGKILL))
        if verb == "hang":
            return await self._hang(self._who(what, target), fault.lasts)
        if verb == "net":
            return await self._net(what, fault.lasts, dice)
        return await self._how[fault.kind.name](fault, target, dice)

    def _who(self, what: str, target: Worked) -> int | None:
        house, inside = self._house, {"sandbox": processes.FIRST, "runner": processes.RUNNER, "cli": processes.AGENT}
        if what in inside:
            return processes.named(house.inside(target.id), inside[what])
        if what == "holder":
            return house.holder(target.id)
        return {"server": house.server, "keeper": house.keeper, "proxy": house.proxy}[what]()

    def _signal(self, pid: int | None, number: int) -> bool:
        return pid is not None and processes.send(pid, number)

    async def _end_server(self, name: str, target: Worked, dice: random.Random) -> int:
        """It is gone for a while. Whoever called starts it and measures the rest."""
        house = self._house
        others = [house.keeper(), house.proxy()] if name == "kill-all" else []
        for pid in others:
            self._signal(pid, signal.SIGKILL)
        await house.end(signal.SIGTERM if name == "term-server" else signal.SIGKILL)
        if name == "kill-away":
            self._signal(self._who(dice.choice(("runner", "holder", "sandbox")), target), signal.SIGKILL)
        await asyncio.sleep(dice.choice((0.0, dice.uniform(0, DOWN_S))))
        if name == "kill-twice":
            await house.try_to_start(dice.uniform(*START_S))
        return 1

    async def _hang(self, pid: int | None, seconds: float) -> int:
        if not self._signal(pid, signal.SIGSTOP):
            return 0
        assert pid is not None
        try:
            await asyncio.sleep(seconds)
        finally:
            processes.send(pid, signal.SIGCONT)
        return 1

    async def _net(self, what: str, seconds: float, dice: random.Random) -> int:
        relay = self._house.relay
        match what:
            case "cut":
                return relay.cut(dice)
            case "half":
                return relay.half(dice)
            case "stall":
                return await relay.stall(dice, seconds)
            case "dribble":
                return await relay.dribble(dice, seconds)
            case _:
                return await relay.late(dice, seconds)

    async def _disk_full(self, fault: Fault, target: Worked, dice: random.Random) -> int:
        if not self._house.fill():
            return 0
        try:
            await asyncio.sleep(fault.lasts)
        finally:
            self._house.empty()
        return 1

    async def _store_fails(self, fault: Fault, target: Worked, dice: random.Random) -> int:
        """No file of the server's may grow, as on a disk that is full or broken for it alone."""
        pid = self._house.server()
        if pid is None:
            return 0
        if not processes.limit_files(pid, dice.choice((0, KEPT_FREE))):
            return 0
        try:
            await asyncio.sleep(fault.lasts)
        finally:
            processes.limit_files(pid, resource.RLIM_INFINITY)
        return 1

    async def _store_locked(self, fault: Fault, target: Worked, dice: random.Random) -> int:
        """Another program (a backup, a person with a shell) holds the file's lock, longer than the server waits."""
        return await asyncio.to_thread(_hold_lock, str(self._house.home / "log.sqlite"), fault.lasts)

    async def _link_cut(self, fault: Fault, target: Worked, dice: random.Random) -> int:
        pid = self._house.server()
        return processes.shut(pid, str(self._house.run / f"{target.id}.run")) if pid is not None else 0

    async def _model_cut(self, fault: Fault, target: Worked, dice: random.Random) -> int:
        """Every connection of the proxy that goes over TCP: the agents' to it, and its own to the model."""
        pid = self._house.proxy()
        return processes.shut(pid, family=socket.AF_INET) if pid is not None else 0

    async def _clock_jump(self, fault: Fault, target: Worked, dice: random.Random) -> int:
        self._house.shift(dice.choice(JUMPS))
        await asyncio.sleep(fault.lasts)
        self._house.shift(0.0)
        return 1


def _hold_lock(path: str, seconds: float) -> int:
    import time

    with contextlib.closing(sqlite3.connect(path, timeout=LOCK_TRIES_S, isolation_level=None)) as db:
        try:
            db.execute("begin immediate")
        except sqlite3.OperationalError:
            return 0
        time.sleep(seconds)
        db.execute("rollback")
    return 1
