"""A publish by HTTP without what an ordinary request costs besides: a busy publisher is most of what a server of events
reads.

A client that keeps its connection sends the very same head with every event of one size. What was read from it is kept
beside its bytes (`web.head` compares them), so only the body is new. What decides (names, credential, limits,
rights, the body) is asked anew each time, of the same functions as for any other request (`web.events`), and the answer
is the same to the byte but for its id. One that has nothing to wait for, as most have, is answered where it is read.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.core import publish
from pilothouse.core.access import Principal
from pilothouse.core.bucket import State
from pilothouse.core.errors import PilothouseError, RateLimited
from pilothouse.core.publish import Bad
from pilothouse.engine import records
from pilothouse.engine.ports import StoreFailed
from pilothouse.web import admit, events, wire
from pilothouse.web.access import AccessLog, named
from pilothouse.web.asked import Asked
from pilothouse.web.call import Platform
from pilothouse.web.callers import Callers
from pilothouse.web.front import Front
from pilothouse.web.guard import Guard, MisdirectedHost, Once, Trust
from pilothouse.web.peer import peer

PATH = "/event"
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Head:
    """What was read from one."""

    asked: Asked
    once: Once
    address: str
    path: str
    accepted: bytes
    """The answer to what is accepted, up to what is new in each."""
    key: str | None = None
    """Where a key is all that says who it is, and the event has no key of its own."""
    trust: Trust | None = None
    """By which its names were found to be ours."""


class Quick:
    def __init__(
        self,
        platform: Platform,
        guard: Guard,
        front: Front | None = None,
        log: AccessLog | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        """`headers`: on every answer that does not say otherwise itself."""
        self._platform = platform
        self._guard = guard
        self._callers = Callers(platform, guard)
        self._front = front or Front()
        self._log = log
        self._headers = headers or {}

    def know(self, scope: dict[str, Any]) -> Head | None:
        """`scope`: a copy of what the ASGI server has made. None where the head is not a publish's."""
        self._front.scope(scope)
        if scope["method"] != "POST" or scope["path"] != self._front.base + PATH:
            return None
        request = Request(scope)
        asked, _ = Asked.of(request)
        once = Once.of(request)
        answer = self._whole(events.crossing(events.accepted(b"", None), once))
        del answer.headers["content-length"], answer.headers[events.REQUEST_ID]
        key = None if self._callers.tells or asked.all(events.IDEMPOTENCY) else self._callers.key(asked.headers)
        return Head(asked, once, peer(request), scope["path"], _start(answer), key)

    def at_once(self, head: Head, body: bytes) -> bytes | None:
        """As `answer`, where nothing has to be waited for and nothing is wrong. None: `answer` says, and nothing has
        happened."""
        since, platform = time.perf_counter(), self._platform
        channels = platform.channels
        if head.key is None or channels is None or head.trust is not self._guard.trust:
            return None
        try:
            caller = self._callers.by_key(head.key)
            if caller is None:
                return None
            wanted = publish.request(body)
            if wanted.key is not None or self._callers.namespace(caller, "publish", wanted.channel) is None:
                return None
            feeds = channels.open_at_once(caller.principal.organisation, wanted.channel, wanted.events)
            if feeds is None:
                return None
            state = platform.gate.request(caller.principal)
        except (Bad, RateLimited):
            return None
        try:
            said = events.published(channels.deliver_at_once(feeds, wanted.channel, wanted.events))
        except Exception:  # noqa: BLE001 - as in `answer`; some may have it, so it is not tried again
            return self._said(head, self._failed(), "", since)
        self._note(head, "" if self._log is None else named(caller.principal), 200, len(said), since)
        return _accepted(head, said, state)

    async def answer(self, head: Head, body: bytes) -> bytes:
        """The whole answer, as it goes on the wire."""
        since, who = time.perf_counter(), ""

        def met(principal: Principal) -> None:
            nonlocal who
            who = named(principal)

        async def read() -> bytes:
            return body

        try:
            if head.trust is not self._guard.trust:
                self._guard.place(head.once)
                head.trust = self._guard.trust
            asked = Asked(head.asked.method, head.asked.path, head.asked.query, head.asked.headers, read)
            said, state = await events.publishing(asked, head.address, self._platform, self._callers, met)
        except MisdirectedHost as error:
            answer = self._whole(wire.problem(error))
        except (Bad, StoreFailed, PilothouseError) as error:
            self._platform.metrics.refused.add((events.code(error),))
            answer = self._whole(events.crossing(events.refused(error), head.once))
        except Exception:  # noqa: BLE001 - as for any other request: the client is told, and the log why
            answer = self._failed()
        else:
            self._note(head, who, 200, len(said), since)
            return _accepted(head, said, state)
        return self._said(head, answer, who, since)

    def _failed(self) -> Response:
        _log.exception("a publish failed")
        return self._whole(wire.problem(PilothouseError("The server failed at this; its log says where.")))

    def _said(self, head: Head, answer: Response, who: str, since: float) -> bytes:
        """One that is no acceptance, as it goes on the wire."""
        self._note(head, who, answer.status_code, len(answer.body), since)
        return _start(answer) + b"\r\n" + bytes(answer.body)

    def _whole(self, answer: Response) -> Response:
        for name, value in self._headers.items():
            answer.headers.setdefault(name, value)
        return answer

    def _note(self, head: Head, who: str, status: int, size: int, since: float) -> None:
        metrics = self._platform.metrics
        metrics.requests.add(("POST", PATH, str(status)))
        metrics.request_s.add(time.perf_counter() - since, ("POST", PATH))
        if self._log is not None:
            self._log.request(who, "POST", head.path, status, size, since, head.address)


def _accepted(head: Head, said: bytes, state: State | None) -> bytes:
    limits = "".join(f"{name}: {value}\r\n" for name, value in admit.limits(state).items())
    more = f"{limits}{events.REQUEST_ID}: {records.new_id()}\r\ncontent-length: {len(said)}\r\n\r\n"
    return head.accepted + more.encode() + said


def _start(answer: Response) -> bytes:
    """Its first line and its headers."""
    lines = [f"HTTP/1.1 {answer.status_code} {HTTPStatus(answer.status_code).phrase}".encode()]
    lines += [name + b": " + value for name, value in answer.raw_headers]
    return b"\r\n".join([*lines, b""])
