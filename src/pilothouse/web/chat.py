"""The chat socket: `core.chat` frames on a WebSocket, events from the log by cursor. See `protocol/chat.md`.

A subscription is one task that follows the log and writes; replay and live are the same loop. A viewer that does not
read makes its own task wait and nothing else: its place is its cursor. One that stays away too long is sent off with
4508 and may come back with that cursor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict

from pilothouse.core import chat
from pilothouse.core.access import Principal, Scope
from pilothouse.core.attach import pictures
from pilothouse.core.errors import BadRequest, Conflict, NotFound, PilothouseError, TooMany
from pilothouse.core.ids import ApprovalId, QuestionId, SessionId
from pilothouse.engine.log import Gap
from pilothouse.engine.ports import Row, StoreFailed
from pilothouse.engine.sessions import Session
from pilothouse.web import wire
from pilothouse.web.access import named
from pilothouse.web.call import Platform
from pilothouse.web.guard import Guard, Once
from pilothouse.web.socket import Accept, Frames, Message, Refuse, Socket, UpgradeRequest

SUBSCRIPTIONS_MAX = 50
"""Sessions followed on one socket: a page shows one, a wall of them a few dozen."""
FRAMED_MAX = 256 * 1024
"""Bytes of frames remembered per watched session: what is new, not a replay from the start."""
SLOW_S = 60.0
"""How long a viewer may leave its socket unread."""
CLOSE_FAILED = 1011
CONNECTIONS_MAX = 2000
"""Chat sockets of one credential; a fault in a client must not take all of the server's."""

_log = logging.getLogger(__name__)


class Hub:
    """Who watches what: the count that `viewers` frames tell."""

    def __init__(self) -> None:
        self._viewers: defaultdict[SessionId, set[Connection]] = defaultdict(set)
        self._open: defaultdict[str, set[Connection]] = defaultdict(set)
        self._framed: dict[SessionId, tuple[int, int, Frames]] = {}

    def count(self, session: SessionId) -> int:
        return len(self._viewers[session]) if session in self._viewers else 0

    def joined(self, session: SessionId, viewer: Connection) -> None:
        self._viewers[session].add(viewer)
        self._tell(session)

    def left(self, session: SessionId, viewer: Connection) -> None:
        self._viewers[session].discard(viewer)
        self._tell(session)
        if not self._viewers[session]:
            del self._viewers[session]
            self._framed.pop(session, None)

    def _tell(self, session: SessionId) -> None:
        frame = chat.encode_frame(chat.Viewers(chat_id=session, viewers=len(self._viewers[session])))
        for viewer in self._viewers[session]:
            viewer.socket.send_text(frame)

    def frames(self, session: SessionId, rows: list[Row]) -> Frames:
        """The rows as WebSocket frames, made once for all viewers that are at the same place."""
        first, last = rows[0].seq, rows[-1].seq
        known = self._framed.get(session)
        if known is not None and known[:2] == (first, last):
            return known[2]
        made = Frames.of([row.body for row in rows])
        if len(made.raw) <= FRAMED_MAX:
            self._framed[session] = (first, last, made)
        return made

    def opened(self, connection: Connection) -> None:
        mine = self._open[connection.principal.credential]
        if len(mine) >= CONNECTIONS_MAX:
            raise TooMany
        mine.add(connection)

    def closed(self, connection: Connection) -> None:
        credential = connection.principal.credential
        self._open[credential].discard(connection)
        if not self._open[credential]:
            del self._open[credential]

    def revoked(self, credential: str) -> None:
        for connection in list(self._open.get(credential, ())):
            connection.socket.close(chat.CLOSE_SIGN_IN, "sign in again")

    def all_away(self) -> None:
        """The server goes: everybody may come back."""
        for mine in list(self._open.values()):
            for connection in list(mine):
                connection.socket.close(chat.CLOSE_GOING_AWAY, "the server restarts")


class ChatDoor:
    def __init__(self, platform: Platform, guard: Guard, hub: Hub) -> None:
        self._platform = platform
        self._guard = guard
        self._hub = hub

    async def authorize(self, request: UpgradeRequest) -> Accept | Refuse:
        try:
            principal = await self._guard.check("cookie-same-origin", "GET", Once.upgrade(request), socket=True)
            assert principal is not None
            principal.need("read")
        except PilothouseError as error:
            answer = wire.problem(error)
            return Refuse(answer.status_code, [("content-type", "application/problem+json")], bytes(answer.body))
        who = principal
        return Accept(
            lambda socket: Connection(self._platform, self._hub, socket, who).serve(), principal=named(principal)
        )


class Connection:
    def __init__(self, platform: Platform, hub: Hub, socket: Socket, principal: Principal) -> None:
        self._platform = platform
        self._hub = hub
        self.socket = socket
        self.principal = principal
        self._following: dict[SessionId, asyncio.Task[None]] = {}

    async def serve(self) -> None:
        try:
            self._hub.opened(self)
        except TooMany:
            self.socket.close(chat.CLOSE_POLICY, "too many connections")
            return
        ending = self._end_with_credential()
        try:
            while (message := await self.socket.receive()) is not None:
                await self._take(message)
        finally:
            if ending is not None:
                ending.cancel()
            self._hub.closed(self)
            for session in list(self._following):
                await self._unsubscribe(session)

    def _end_with_credential(self) -> asyncio.TimerHandle | None:
        """It may have ended between the upgrade and now, and a sign-in ends some day."""
        left = self._platform.identity.left(self.principal)
        if left is None:
            return None
        loop = asyncio.get_running_loop()
        return loop.call_later(left, self.socket.close, chat.CLOSE_SIGN_IN, "sign in again")

    def _send(self, frame: chat.ServerFrame) -> None:
        self.socket.send_text(chat.encode_frame(frame))

    async def _take(self, message: Message) -> None:
        said = chat.parse_client(message.data, binary=not message.text)
        if isinstance(said, chat.Rejected):
            self._send(said)
            return
        try:
            await self._act(said)
        except StoreFailed:
            self._send(
                chat.Rejected(code="unavailable", message="The store does not answer; try again.", ref=_ref(said))
            )
        except PilothouseError as error:
            self._send(
                chat.Rejected(
                    code=error.code,
                    message=error.message,
                    ref=_ref(said),
                    outcome=_text(error.details.get("outcome")),
                    by=_text(error.details.get("by")),
                )
            )
        await self.socket.writable()  # who asks without reading waits for itself

    async def _act(self, said: chat.ClientMessage) -> None:
        sessions = self._platform.sessions
        account, label = self.principal.account, self.principal.label
        match said:
            case chat.Ping():
                self._send(chat.Pong())
            case chat.Subscribe():
                self._subscribe(await sessions.get(said.chat_id, account), said.after, said.epoch)
            case chat.Unsubscribe():
                session = await sessions.get(said.chat_id, account)
                await self._unsubscribe(session.live.record.id)
            case chat.Chat():
                self._need("run")
                await self._chat(said)
            case chat.ApprovalResponse():
                self._need("approve")
                session, record = await sessions.of_approval(said.approval_id, account)
                await session.approvals.decide(
                    ApprovalId(record.approval_id),
                    approved=said.approved,
                    by=label,
                    input_hash=said.input_hash,
                    option_id=said.option_id,
                    message=said.message,
                    updated_input=said.updated_input,
                )
            case chat.QuestionResponse():
                self._need("approve")
                session, question = await sessions.of_question(said.question_id, account)
                await session.questions.answer(QuestionId(question.question_id), said.answers, by=label)
            case chat.Interrupt():
                self._need("run")
                await (await sessions.get(said.chat_id, account)).jobs.interrupt(label)
            case chat.SetMode():
                self._need("run")
                await sessions.change(await sessions.get(said.chat_id, account), mode=said.mode)
            case chat.SetModel():
                self._need("run")
                await sessions.change(await sessions.get(said.chat_id, account), model=said.model)

    def _need(self, scope: Scope) -> None:
        self.principal.need(scope)

    async def _chat(self, said: chat.Chat) -> None:
        sessions = self._platform.sessions
        attached = pictures(said.attachments or ())
        if said.steer and said.chat_id is None:
            raise BadRequest("steer: name the session whose job the message joins, by chatId")
        sessions.check(
            said.message, permission_mode=said.permission_mode, allowed_tools=said.allowed_tools,
            max_cost_usd=said.max_cost_usd, max_tokens=said.max_tokens, model=said.model,
        )  # fmt: skip
        if said.chat_id is None:
            session = await sessions.create(
                owner=self.principal.account,
                once=said.client_message_id or "",
                agent=said.agent,
                permission_mode=said.permission_mode,
                model=said.model,
            )
            if session.live.record.id not in self._following:  # a resend on the same socket
                self._subscribe(session, 0, None, ref=said.client_message_id)
        else:
            session = await sessions.get(said.chat_id, self.principal.account)
            if said.agent is not None and said.agent != session.live.record.agent:
                raise Conflict(f"agent: this session's agent is {session.live.record.agent}")
        if said.steer:
            await session.jobs.steer(said.message, self.principal.label, said.client_message_id)
            return
        job = sessions.job(
            session,
            said.message,
            self.principal.label,
            permission_mode=said.permission_mode,
            allowed_tools=said.allowed_tools,
            max_cost_usd=said.max_cost_usd,
            max_tokens=said.max_tokens,
            model=said.model,
        )
        await session.jobs.submit(job, client_message_id=said.client_message_id, attachments=attached)

    # --- following ---

    def _subscribe(self, session: Session, after: int, epoch: str | None, ref: str | None = None) -> None:
        sid = session.live.record.id
        if sid in self._following:
            raise Conflict("This socket follows that session already.")
        if len(self._following) >= SUBSCRIPTIONS_MAX:
            raise TooMany(f"One socket follows at most {SUBSCRIPTIONS_MAX} sessions.")
        task = asyncio.create_task(self._follow(session, after, epoch, ref), name="follow")
        self._following[sid] = task
        task.add_done_callback(lambda done: self._forget(sid, done))

    def _forget(self, sid: SessionId, done: asyncio.Task[None]) -> None:
        if self._following.get(sid) is done:
            del self._following[sid]
        if not done.cancelled() and done.exception() is not None:
            _log.error("following failed", exc_info=done.exception())
            self.socket.close(CLOSE_FAILED, "come back with your cursor")  # never silence

    async def _unsubscribe(self, session: SessionId) -> None:
        task = self._following.pop(session, None)
        if task is None:
            raise NotFound("This socket does not follow that session.")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _follow(self, session: Session, after: int, epoch: str | None, ref: str | None) -> None:
        sid = session.live.record.id
        log = self._platform.kit.log
        oldest = await log.oldest(sid)
        head = session.live.head
        gap = (epoch is not None and epoch != log.epoch) or after > head or after + 1 < oldest
        if gap:
            after = max(oldest - 1, 0)
        self._hub.joined(sid, self)
        try:
            self._send(
                chat.Subscribed(
                    chat_id=sid,
                    epoch=log.epoch,
                    oldest=oldest,
                    head=head,
                    gap=gap,
                    running=session.jobs.busy,
                    pending_approvals=list(session.approvals.pending),
                    pending_questions=list(session.questions.pending),
                    viewers=self._hub.count(sid),
                    ref=ref,
                )
            )
            if after >= head:
                self._send(chat.CaughtUp(chat_id=sid, seq=head))
                head = -1
            await self._pump(sid, after, head)
        finally:
            self._hub.left(sid, self)

    async def _pump(self, sid: SessionId, after: int, head: int) -> None:
        """Writes the log from the cursor on; `caught_up` once `head`, the head at the start, has been passed."""
        async for batch in self._platform.kit.log.follow_batches(sid, after):
            if isinstance(batch, Gap):
                self._send(chat.Gap(chat_id=sid, from_=batch.start, to=batch.end))
            else:
                self.socket.send_frames(self._hub.frames(sid, batch))
                after = batch[-1].seq
            if 0 <= head <= after:
                self._send(chat.CaughtUp(chat_id=sid, seq=after))
                head = -1
            try:
                async with asyncio.timeout(SLOW_S):
                    if not await self.socket.writable():
                        return
            except TimeoutError:
                self.socket.close(chat.CLOSE_TOO_SLOW, "too slow; come back with your cursor")
                return
        self._send(chat.Rejected(code="not_found", message="The session was deleted.", ref=sid))


def _ref(said: chat.ClientMessage) -> str | None:
    for name in ("client_message_id", "approval_id", "question_id", "chat_id"):
        value = getattr(said, name, None)
        if isinstance(value, str):
            return value
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
