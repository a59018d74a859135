"""The egress listener of a session: an HTTP proxy that keeps to the session's policy.

    CONNECT host:port       a tunnel, for https and whatever else is allowed
    GET http://host/…       a plain request, passed on without headers that concern one hop

The name is looked up outside of the session (`outside`), and the connection goes to the address that was checked. What
is not passed on gets a sentence that names the host, in the status line too, since many programs show no more:

| status | |
|---|---|
| 400 | the request is not one for a host and a port |
| 403 | the policy refuses the host, a person denied it, or it leads to an address that is not public |
| 408, 431 | the request's head does not come, or has no end |
| 429 | too many connections |
| 502 | the name has no address, or the answer is no HTTP |
| 504 | nothing answers there |

Nobody's question is whether a tunnel's content is what the host's name says: a session that may reach a host may send
it anything.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from pilothouse.adapters.proxies import heads
from pilothouse.adapters.proxies.asks import Answer, Asks
from pilothouse.adapters.proxies.contacts import Contacts
from pilothouse.adapters.proxies.forward import Cut, Forward
from pilothouse.adapters.proxies.heads import HEAD_MAX, Asked
from pilothouse.adapters.proxies.outside import TURNS, Outside, Unreachable
from pilothouse.adapters.proxies.tunnel import PIECE, join
from pilothouse.core.contacts import Reason
from pilothouse.core.ids import SessionId
from pilothouse.core.reach import BadTarget, Reach, Target

EARLY_MAX = 64 * 1024
"""Bytes that a program may send while its connection waits for a person."""
PHRASE_MAX = 200


@dataclass(frozen=True, slots=True)
class Limits:
    head_s: float = 10.0
    connect_s: float = 15.0
    """Look-up included."""
    idle_s: float = 300.0
    """Without a byte either way; a slow download still moves."""
    total_s: float = 3600.0
    connections_max: int = 64
    """At one time and session: package managers open a dozen."""


class Refused(Exception):
    """Not passed on; the message says why."""

    def __init__(self, status: int, text: str, reason: Reason | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.reason: Reason | None = reason


@dataclass(eq=False, slots=True)
class _Passing:
    """A connection that has been let through."""

    target: Target
    once: bool
    """A person approved this very connection."""
    task: asyncio.Task[object]


class EgressDoor:
    """One per session; `connected` is the callback of its listener."""

    def __init__(
        self,
        session: SessionId,
        reach: Callable[[], Reach],
        outside: Outside,
        contacts: Contacts,
        asks: Asks,
        limits: Limits | None = None,
    ) -> None:
        self._session = session
        self._reach = reach
        self._outside = outside
        self._contacts = contacts
        self._asks = asks
        self._limits = limits or Limits()
        self._open = 0
        self._turn = asyncio.Semaphore(TURNS)
        self._passing: set[_Passing] = set()

    def changed(self) -> None:
        """The policy is another one: connections that it would refuse end, those that wait are decided."""
        reach = self._reach()
        for passing in list(self._passing):
            if not self._kept(passing):
                passing.task.cancel()
        self._asks.settle(self._session, lambda target: _decided(reach, target))

    def _kept(self, passing: _Passing) -> bool:
        reach = self._reach()
        return reach.allows(passing.target) or (passing.once and reach.policy == "allow")

    def close(self) -> None:
        for passing in list(self._passing):
            passing.task.cancel()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > 4 * self._limits.connections_max:
                return  # too many to even be told why
            async with asyncio.timeout(self._limits.total_s):
                await self._serve(reader, writer)
        except Refused as why:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(self._limits.head_s):
                    writer.write(_reply(why.status, str(why)))
                    await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self._open -= 1
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await self._head(reader)
        try:
            asked = heads.read(head)
            forward = None if asked.tunnel else Forward(asked, reader, writer)
            if forward is not None:
                forward.begin(head)
        except BadTarget as error:
            self._contacts.note(self._session, None, "malformed")
            raise Refused(400, str(error)) from None
        try:
            reason, early = await self._may(asked.target, reader)
        except Refused as why:
            if why.reason is not None:
                self._contacts.note(self._session, asked.target, why.reason)
            raise
        await self._pass(asked, forward, reason, early, reader, writer)

    async def _head(self, reader: asyncio.StreamReader) -> bytes:
        try:
            async with asyncio.timeout(self._limits.head_s):
                return await reader.readuntil(b"\r\n\r\n")
        except asyncio.LimitOverrunError:
            self._contacts.note(self._session, None, "malformed")
            raise Refused(431, f"the request's head has more than {HEAD_MAX} bytes") from None
        except TimeoutError:
            raise Refused(408, f"the request's head did not come within {self._limits.head_s:g} s") from None

    async def _may(self, target: Target, reader: asyncio.StreamReader) -> tuple[Reason, bytes]:
        """Why it may, and what was sent while it waited. Raises Refused."""
        if self._open > self._limits.connections_max:
            raise Refused(429, f"at most {self._limits.connections_max} connections at one time", "limit")
        reach = self._reach()
        if reach.allows(target):
            return "full" if reach.policy == "full" else "listed", b""
        if reach.policy == "off":
            raise Refused(403, f"{target} is refused: this session has no network", "off")
        if reach.ask_s <= 0:
            raise Refused(403, f"{target} is refused: it is not among the domains of this session", "not_listed")
        answer, early = await self._asked(target, reach.ask_s, reader)
        if not answer.allow:
            reason: Reason = "denied" if answer.denied else "not_listed"
            raise Refused(403, f"{target} is refused: {answer.message or 'a person denied it'}", reason)
        return "approved", early

    async def _asked(self, target: Target, hold_s: float, reader: asyncio.StreamReader) -> tuple[Answer, bytes]:
        """A person's answer, unless the program goes away first."""
        early = bytearray()

        async def watch() -> None:
            while len(early) < EARLY_MAX and (data := await reader.read(PIECE)):
                early.extend(data)
            if len(early) >= EARLY_MAX:
                await asyncio.Event().wait()  # it is full: the rest stays where it is

        asking = asyncio.create_task(self._asks.ask(self._session, target, hold_s))
        watching = asyncio.create_task(watch())
        try:
            await asyncio.wait((asking, watching), return_when=asyncio.FIRST_COMPLETED)
            if not asking.done():
                raise ConnectionAbortedError
            return asking.result(), bytes(early)
        finally:
            for task in (asking, watching):
                task.cancel()
            await asyncio.gather(asking, watching, return_exceptions=True)

    async def _pass(
        self,
        asked: Asked,
        forward: Forward | None,
        reason: Reason,
        early: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        task = asyncio.current_task()
        assert task is not None
        passing = _Passing(asked.target, reason == "approved", task)
        self._passing.add(passing)
        try:
            if not self._kept(passing):  # it was changed after the answer, when there was nothing to end yet
                raise Refused(403, f"{asked.target} is refused: the session's policy was changed", "not_listed")
            try:
                far, far_out = await self._outside.connect(asked.target, self._limits.connect_s, self._turn)
            except Unreachable as why:
                raise Refused(why.status, str(why), why.reason) from None
            key = self._contacts.note(self._session, asked.target, reason)

            def moved(into: int, out: int) -> None:
                self._contacts.moved(key, into, out)

            try:
                if forward is None:
                    writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                    far_out.write(early)
                    await join(reader, writer, far, far_out, self._limits.idle_s, moved)
                else:
                    await self._forward(asked, forward, early, far, far_out, moved)
            finally:
                far_out.close()
        except Refused as why:
            if why.reason is not None:
                self._contacts.note(self._session, asked.target, why.reason)
            raise
        finally:
            self._passing.discard(passing)

    async def _forward(
        self,
        asked: Asked,
        forward: Forward,
        early: bytes,
        far: asyncio.StreamReader,
        far_out: asyncio.StreamWriter,
        moved: Callable[[int, int], None],
    ) -> None:
        try:
            await forward.run(far, far_out, self._limits.idle_s, moved, early)
        except Cut:
            if not forward.answered:
                raise Refused(502, f"{asked.target} gave no answer that is HTTP") from None


def _decided(reach: Reach, target: Target) -> Answer | None:
    if reach.allows(target):
        return Answer(True)
    if reach.policy != "allow" or reach.ask_s <= 0:
        return Answer(False, "the session's policy was changed")
    return None


def _reply(status: int, text: str) -> bytes:
    """The sentence is in the status line as well; there it is printable ASCII, cut."""
    body = f"Pilothouse: {text}\n".encode(errors="replace")
    phrase = "".join(c if c.isascii() and c.isprintable() else "?" for c in text[:PHRASE_MAX])
    head = (
        f"HTTP/1.1 {status} Pilothouse: {phrase}\r\ncontent-type: text/plain; charset=utf-8\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    return head.encode() + body
