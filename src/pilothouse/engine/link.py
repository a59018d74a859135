"""The server's end of the link to one runner: attach, take events in order, acknowledge, send commands till done.

It comes back by itself when the connection breaks and gives up only when its owner says so. A command is kept until
the runner says `done`, and is sent again after every attach: commands are idempotent by id.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol

import msgspec

from pilothouse.core import ids, link
from pilothouse.engine.ports import Wire

BATCH = 256
"""Events taken in one transaction."""
QUEUE = 512
"""Messages read ahead of the store; when it is full the runner's socket fills, and the runner waits."""
HELD_MAX = 16 * 1024 * 1024
"""Bytes of them: one message may have 8 MiB, and a runner may send nothing else."""
BATCH_SIZE = 4 * 1024 * 1024
"""Bytes taken in one transaction, unless one event alone has more."""
OPEN_MAX = 2000
"""Commands that a runner has not answered: approvals are at most dozens, so it does not mean to."""
HELLO_S = 30.0
"""A runner that has been started says hello within this; importing the agent's SDK takes seconds on a busy machine."""
RETRY_S = (0.05, 0.1, 0.2, 0.5, 1.0)
STEADY_S = 5.0
"""A connection that lived shorter than this was none: one that greets and hangs up is called less and less often."""
RATE = 4000
"""Frames per second taken from one runner on average; text deltas come 25 a second, so this is no agent's pace."""
FRAME_COST = 4096
"""Bytes that count as one frame more: 16 MB a second, so that a runner cannot fill a disk within minutes."""


class LinkLostError(Exception):
    """The runner is gone for good."""


class Owner(Protocol):
    """Who the link works for."""

    async def greeted(self, hello: link.Hello) -> int:
        """Called on every attach; answers the highest event number already taken from this runner."""
        ...

    async def environment(self) -> dict[str, str]:
        """What the agent is given besides what its session has; told with every attach."""
        ...

    async def take(self, batch: list[tuple[int, bytes]]) -> int:
        """Numbered raw events, in order. The number up to which all are in the log now: the last may wait for what
        follows. 0: none of them."""
        ...

    async def again(self, raw: bytes) -> None:
        """An event whose number was taken before: after an attach the runner repeats its open asks."""
        ...

    async def gone(self) -> bool:
        """The connection broke or could not be made. True: there is no runner any more, give up."""
        ...

    def trouble(self, error: Exception) -> None:
        """Something failed that should not have; the link goes on and tries again."""
        ...


class Pace:
    """What one connection may send: `RATE` a second on average, a second's worth at once."""

    def __init__(self) -> None:
        self._clock = asyncio.get_running_loop().time
        self._left, self._since = float(RATE), self._clock()

    async def spend(self, frames: int) -> None:
        now = self._clock()
        self._left = min(RATE, self._left + (now - self._since) * RATE) - frames
        self._since = now
        if self._left < 0:
            await asyncio.sleep(-self._left / RATE)


class RunnerLink:
    def __init__(self, owner: Owner, connect: Callable[[], Awaitable[Wire]], fence: Callable[[], int]) -> None:
        self._owner = owner
        self._connect = connect
        self._fence = fence
        self._wire: Wire | None = None
        self._open: dict[str, tuple[link.Command, asyncio.Future[str | None]]] = {}
        self._fragments = 0
        self._held = 0
        self._room = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.hello: link.Hello | None = None
        self.attached = asyncio.Event()
        self.over = asyncio.Event()

    def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="link")

    async def close(self) -> None:
        self.over.set()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._fail_open()

    async def greeting(self) -> link.Hello | None:
        """The hello of the runner, once attached; None when there is none any more."""
        waits = [asyncio.create_task(self.attached.wait()), asyncio.create_task(self.over.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        return None if self.over.is_set() else self.hello

    async def command(self, command: link.Command) -> None:
        """Sends it, again after a reconnect, until the runner says done. Raises LinkLostError, ValueError (the runner
        refused it, with its words)."""
        if self.over.is_set():
            raise LinkLostError("the runner is gone")
        if command.id in self._open:
            error = await asyncio.shield(self._open[command.id][1])
        elif len(self._open) >= OPEN_MAX:
            raise ValueError("the runner leaves too many commands unanswered")
        else:
            future: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
            self._open[command.id] = (command, future)
            if self.attached.is_set():
                await self._send(link.FromServer(cmd=command))
            error = await asyncio.shield(future)
        if error:
            raise ValueError(error)

    async def _run(self) -> None:
        tries = 0
        clock = asyncio.get_running_loop().time
        while not self.over.is_set():
            try:
                wire = await self._connect()
            except Exception:  # noqa: BLE001  whatever a transport raises means: not connected
                wire = None
            if wire is not None:
                since = clock()
                try:
                    await self._attached(wire)
                except Exception as error:  # noqa: BLE001  a link that died in silence would leave its job for ever
                    self._owner.trouble(error)
                finally:
                    self.attached.clear()
                    self._wire = None
                    await wire.close()
                if clock() - since > STEADY_S:
                    tries = 0
            if await self._gone():
                self.over.set()
                break
            await asyncio.sleep(RETRY_S[min(tries, len(RETRY_S) - 1)])
            tries += 1
        self._fail_open()

    async def _gone(self) -> bool:
        try:
            return await self._owner.gone()
        except Exception as error:  # noqa: BLE001  whoever knows cannot be asked: not known to be gone
            self._owner.trouble(error)
            return False

    def _fail_open(self) -> None:
        for _, future in self._open.values():
            if not future.done():
                future.set_exception(LinkLostError("the runner is gone"))
                future.exception()
        self._open.clear()

    async def _attached(self, wire: Wire) -> None:
        """One connection's life."""
        assembler = link.Assembler()
        hello = await self._hello(wire, assembler)
        if hello is None:
            return
        if self.hello is not None and self.hello.runner_id != hello.runner_id:
            self._fail_open()  # meant for another runner: a prompt of its must not be run again by this one
        self.hello = hello
        acked = await self._owner.greeted(hello)
        self._wire = wire
        environment = await self._owner.environment()
        attach = link.Attach(proto=link.PROTO, acked=acked, fence=self._fence(), env=environment)
        await self._send(link.FromServer(attach=attach))
        for command, _ in list(self._open.values()):
            await self._send(link.FromServer(cmd=command))
        self.attached.set()
        queue: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue(QUEUE)
        self._held = 0
        self._room.set()
        reader = asyncio.create_task(self._read(wire, assembler, queue), name="link-read")
        try:
            await self._take(queue, acked)
        finally:
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    async def _hello(self, wire: Wire, assembler: link.Assembler) -> link.Hello | None:
        try:
            async with asyncio.timeout(HELLO_S):
                while (frame := await wire.receive()) is not None:
                    whole = assembler.feed(frame)
                    if whole is None:
                        continue
                    message = whole if isinstance(whole, link.Broken) else link.parse_runner(whole)
                    if isinstance(message, link.Broken) or message.hello is None:
                        return None
                    known = message.hello.proto == link.PROTO and ids.is_foreign(message.hello.runner_id)
                    return message.hello if known else None
        except TimeoutError:
            return None
        return None

    async def _read(
        self, wire: Wire, assembler: link.Assembler, queue: asyncio.Queue[tuple[int, bytes] | None]
    ) -> None:
        pace = Pace()
        try:
            while (frame := await wire.receive()) is not None:
                await pace.spend(1 + len(frame) // FRAME_COST)
                whole = assembler.feed(frame)
                if whole is None:
                    continue
                message = whole if isinstance(whole, link.Broken) else link.parse_runner(whole)
                if isinstance(message, link.Broken):
                    self._owner.trouble(ValueError(message.why[:200]))
                    break
                if message.done is not None:
                    self._done(message.done, message.error)
                elif message.n is not None:
                    await self._room.wait()
                    raw = bytes(message.ev)
                    self._held += len(raw)
                    if self._held > HELD_MAX:
                        self._room.clear()
                    await queue.put((message.n, raw))
        except OSError:
            pass  # the connection broke
        except Exception as error:  # noqa: BLE001  whatever a transport raises means: the connection is over
            self._owner.trouble(error)
        await queue.put(None)

    def _done(self, command_id: str, error: str | None) -> None:
        _, future = self._open.pop(command_id, (None, None))
        if future is not None and not future.done():
            future.set_result(error)

    async def _take(self, queue: asyncio.Queue[tuple[int, bytes] | None], acked: int) -> None:
        ended = False
        while not ended:
            batch: list[tuple[int, bytes]] = []
            size = count = 0
            item = await queue.get()
            while item is not None:
                count += 1
                size += len(item[1])
                if item[0] > acked:
                    batch.append(item)
                    acked = item[0]
                else:
                    await self._owner.again(item[1])
                if count >= BATCH or size >= BATCH_SIZE or queue.empty():
                    break
                item = queue.get_nowait()
            ended = item is None
            if batch:
                taken = await self._owner.take(batch)
                if taken and not ended:
                    await self._send(link.FromServer(ack=taken))
            self._held -= size
            if self._held <= HELD_MAX:
                self._room.set()

    async def _send(self, message: link.FromServer) -> None:
        wire = self._wire
        if wire is None:
            return
        self._fragments += 1
        try:
            for frame in link.split(msgspec.json.encode(message), f"s{self._fragments}"):
                await wire.send(frame)
        except (OSError, RuntimeError):
            return  # the reader sees the end of the connection and comes back
