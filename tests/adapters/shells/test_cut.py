"""The connection between a server and a holder breaks off, and both go on."""

from __future__ import annotations

import asyncio
import os
import socket

from pilothouse.adapters.shells.held import HeldShells
from pilothouse.core.audience import Viewer, ViewerId
from pilothouse.core.ids import SessionId
from pilothouse.core.shell import ShellId
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.shells import ShellSpec
from pilothouse.engine.terminal import Terminal
from pilothouse.engine.terminals import Terminals
from tests.engine.screens import Screen

SESSION = SessionId("8f14e45f-ceea-467f-a9d5-0123456789ab")


async def test_a_shell_whose_connection_broke_off_is_found_again_by_its_name(holder: str) -> None:
    async def dial(session: SessionId) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(holder)
        return sock

    held = HeldShells(dial, lend=True)
    terminals = Terminals(held, SystemClock())

    async def type(terminal: Terminal, name: str, *, new: bool) -> Screen:
        screen, viewer = Screen(), Viewer(ViewerId(name), name, "type", may_type=True, plain=True)
        await terminals.attach(terminal, viewer, screen, new=new).receive(b"\x00x=$x.; echo ${x}kept\n")
        return screen

    async def see(screen: Screen, data: bytes) -> None:
        async with asyncio.timeout(20):
            while data not in screen.output:
                await asyncio.sleep(0.01)

    spec = ShellSpec(SESSION, ShellId("cut"), ("/bin/sh",), dict(os.environ))
    try:
        for name, seen in (("one", b".kept"), ("two", b"..kept"), ("three", b"...kept")):
            terminal, new = await terminals.open(spec)
            assert new is (name == "one")
            screen = await type(terminal, name, new=new)
            await see(screen, seen)
            line = await held._line(SESSION)
            line._sock.shutdown(socket.SHUT_RDWR)
            async with asyncio.timeout(20):
                while screen.closed is None or not terminal.gone:
                    await asyncio.sleep(0.01)
        terminal, _ = await terminals.open(spec)
        terminal.hang_up()
        async with asyncio.timeout(20):
            while terminal.shell.ended is None:
                await asyncio.sleep(0.01)
    finally:
        await terminals.close()
