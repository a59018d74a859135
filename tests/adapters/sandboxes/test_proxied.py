"""The keeper's ward: started, started again when it dies, found again by the next keeper, ended with the last."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from pilothouse.adapters.sandboxes.host import Host
from tests.adapters.sandboxes.conftest import _end, comm, processes, until


def programs(base: Path) -> set[int]:
    """Keepers and proxies."""
    return {pid for pid in processes(str(base)) if comm(pid) != "ph-zygote"}


async def proxy(host: Host) -> int:
    while not (pid := (await host._keeper({"verb": "status"}))["proxy"]):
        await asyncio.sleep(0.05)
    return int(pid)


async def test_the_proxy_is_kept_running(base: Path) -> None:
    argv = (sys.executable, "-m", "pilothouse.keeper")
    host = await Host.connect_keeper(base / "h", base / "r", argv=argv)
    first = await proxy(host)
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(30):
        while (second := await proxy(host)) == first:
            await asyncio.sleep(0.05)
    await until(lambda: len(programs(base)) == 2)
    (keeper,) = programs(base) - {second}
    os.kill(keeper, signal.SIGKILL)
    await until(lambda: len(programs(base) - {keeper, second}) == 1)  # a new one, nobody asked for it
    assert await proxy(host) == second
    await _end(base, host)


async def test_keeper_and_proxy_killed_at_once_are_both_back_though_nobody_asks(base: Path) -> None:
    argv = (sys.executable, "-m", "pilothouse.keeper")
    host = await Host.connect_keeper(base / "h", base / "r", argv=argv)
    await proxy(host)
    await until(lambda: len(programs(base)) == 2)
    before = programs(base)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    note = base / "r" / "proxy.pid"
    await until(lambda: bool(set(map(int, note.read_text().split()[:1])) - before))
    await _end(base, host)
