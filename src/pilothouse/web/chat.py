"""The chat socket: `core.chat` frames on a WebSocket, events from the log by cursor. See `protocol/chat.md`.

A subscription is one task that follows the log and writes; replay and live are the same loop. A viewer that does not
read makes its own task wait and nothing else: its place is its cursor. One that stays away too long is sent off with
4508 and may come back with that cursor.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AbstractContextManager

from pilothouse.core import access, chat
from pilothouse.core.access import Principal
from pilothouse.core.attach import pictures
from pilothouse.core.errors import BadRequest, Conflict, Forbidden, NotFound, PilothouseError, TooMany
from pilothouse.core.ids import ApprovalId, QuestionId, SessionId
from pilothouse.engine.audit import Who
from pilothouse.engine.log import Gap
from pilothouse.engine.origin import Origin
from pilothouse.engine.ports import StoreFailed
from pilothouse.engine.sessions import Session
from pilothouse.web import admit, wire
from pilothouse.web.access import named
from pilothouse.web.asked import Asked
from pilothouse.web.call import Platform
from pilothouse.web.guard import Guard, Once
from pilothouse.web.hub import Hub
from pilothouse.web.peer import upgrade_peer
from pilothouse.web.socket import Accept, Door, Message, Refuse, Socket, UpgradeRequest
from pilothouse.web.streams import lapse

SUBSCRIPTIONS_MAX = 50
"""Sessions followed on one socket: a page shows one, a wall of them a few dozen."""
SLOW_S = 60.0
"""How long a viewer may leave its socket unread."""
CLOSE_FAILED = 1011
CLOSE_CROWDED = 1013
GONE = "The session was deleted, or is not yours to see any more."

_log = logging.getLogger(__name__)


class ChatDoor(Door):
    def __init__(self, platform: Platform, guard: Guard, hub: Hub) -> None:
        self._platform = platform
        self._guard = guard
        self._hub = hub

    async def authorize(self, request: UpgradeRequest) -> Accept | Refuse:
        address, headers, asked = upgrade_peer(request), Once.upgrade(request), Asked.upgrade(request)
        principal: Principal | None = None
        try:
            with self._platform.gate.knocking(address):
                checked = self._guard.check(
                    "cookie-same-origin", "GET", headers, socket=True, asked=asked, links=True, address=address
                )
                principal = await admit.admit(checked, self._platform, asked, address)
            assert principal is not None
            self._platform.gate.request(principal)
            principal.need_at_most("read")
            room = self._platform.gate.connected(principal)
        except PilothouseError as error:
            if isinstance(error, Forbidden):
                await admit.forbidden(self._platform, Who(principal, address), "WS /ws", error)
            return refuse(error)
        who = Who(principal, address)
        return Accept(
            lambda socket: Connection(self._platform, self._hub, socket, who).serve(room), principal=named(principal)
        )


def refuse(error: PilothouseError) -> Refuse:
    answer = wire.problem(error)
    headers = [(name, value) for name, value in answer.headers.items() if name != "content-length"]
    return Refuse(answer.status_code, headers, bytes(answer.body))


class Connection:
    door = "chat"

    def __init__(self, platform: Platform, hub: Hub, socket: Socket, who: Who) -> None:
        assert who.principal is not None
        self._platform = platform
        self._hub = hub
        self.socket = socket
        self._who = who
        self.principal = who.principal
        self._following: dict[SessionId, asyncio.Task[None]] = {}
        self._followed: dict[SessionId, Session] = {}

    async def serve(self, room: AbstractContextManager[None]) -> None:
        try:
            with room:
                await self._serve()
        except TooMany as error:
            self.socket.close(CLOSE_CROWDED, error.message)

    async def _serve(self) -> None:
        self._hub.opened(self)
        ends = self._platform.left(self.principal) is not None
        ending = asyncio.create_task(self._end_with_credential(), name="credential") if ends else None
        try:
            while (message := await self.socket.receive()) is not None:
                if self._platform.left(self.principal) == 0:  # what had arrived before the end is not done after it
                    self.socket.close(chat.CLOSE_SIGN_IN, "sign in again")
                    return
                await self._take(message)
        finally:
            if ending is not None:
                ending.cancel()
            self._hub.closed(self)
            for session in list(self._following):
                await self._unsubscribe(session)

    async def _end_with_credential(self) -> None:
        """It may have ended between the upgrade and now, and a sign-in ends some day."""
        await lapse(lambda: self._platform.left(self.principal), self._platform.kit.clock.sleep)
        self.socket.close(chat.CLOSE_SIGN_IN, "sign in again")

    def revoked(self) -> None:
        self.socket.close(chat.CLOSE_SIGN_IN, "sign in again")

    def away(self) -> None:
        self.socket.close(chat.CLOSE_GOING_AWAY, "the server restarts")

    def recheck(self) -> None:
        """What this may not see any more is followed no more; one that may nothing any more is sent away."""
        if self._platform.left(self.principal) == 0:
            self.socket.close(chat.CLOSE_SIGN_IN, "sign in again")
            return
        for sid, task in list(self._following.items()):
            if self._platform.left(self.principal, self._followed[sid]) == 0:
                task.cancel()
                self._send(chat.Rejected(code="not_found", message=GONE, ref=sid))

    def _send(self, frame: chat.ServerFrame) -> None:
        self.socket.send_text(chat.encode_frame(frame))

    async def _take(self, message: Message) -> None:
        said = chat.parse_client(message.data, binary=not message.text)
        if isinstance(said, chat.Rejected):
            self._platform.metrics.refused.add((said.code,))
            self._send(said)
            return
        try:
            await self._act(said)
        except StoreFailed:
            self._send(
                chat.Rejected(code="unavailable", message="The store does not answer; try again.", ref=_ref(said))
            )
        except PilothouseError as error:
            self._platform.metrics.refused.add((error.code,))
            if isinstance(error, Forbidden):
                await admit.forbidden(self._platform, self._who, f"WS /ws {type(said).__name__.lower()}", error)
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
        who = self._platform.identity.members.now(self.principal)  # its role may be another since the last message
        label = who.label
        if not isinstance(said, chat.Ping | chat.Subscribe | chat.Unsubscribe):
            self._platform.gate.act(who)
        match said:
            case chat.Ping():
                self._send(chat.Pong())
            case chat.Subscribe():
                self._subscribe(await sessions.get(said.chat_id, who), said.after, said.epoch)
            case chat.Unsubscribe():
                session = await sessions.get(said.chat_id, who)
                await self._unsubscribe(session.live.record.id)
            case chat.Chat():
                async with self._platform.gate.job(who):
                    await self._chat(said, who)
            case chat.ApprovalResponse():
                who.need_at_most("approve")
                session, record = await sessions.of_approval(said.approval_id, who, "approve")
                await session.approvals.decide(
                    ApprovalId(record.approval_id),
                    approved=said.approved,
                    by=label,
                    account=who.account,
                    beyond=access.beyond(who, session.live.record),
                    edits="run" in access.rights(who, session.live.record),
                    input_hash=said.input_hash,
                    option_id=said.option_id,
                    message=said.message,
                    updated_input=said.updated_input,
                    who=self._who,
                )
            case chat.QuestionResponse():
                who.need_at_most("approve")
                session, question = await sessions.of_question(said.question_id, who, "approve")
                await session.questions.answer(
                    QuestionId(question.question_id), said.answers, by=label, account=who.account, who=self._who
                )
            case chat.Interrupt():
                await (await self._in(said.chat_id, who)).jobs.interrupt(label)
            case chat.SetMode():
                await sessions.change(await self._in(said.chat_id, who), mode=said.mode, who=self._who)
            case chat.SetModel():
                await sessions.change(await self._in(said.chat_id, who), model=said.model, who=self._who)

    async def _in(self, chat_id: str, who: Principal) -> Session:
        """A session to do something in."""
        who.need_at_most("run")
        return await self._platform.sessions.get(chat_id, who, "run")

    async def _chat(self, said: chat.Chat, who: Principal) -> None:
        who.need_at_most("run")
        sessions = self._platform.sessions
        attached = pictures(said.attachments or ())
        if said.steer and said.chat_id is None:
            raise BadRequest("steer: name the session whose job the message joins, by chatId")
        sessions.check(
            said.message, permission_mode=said.permission_mode, allowed_tools=said.allowed_tools,
            max_cost_usd=said.max_cost_usd, max_tokens=said.max_tokens, model=said.model,
        )  # fmt: skip
        if said.chat_id is None:
            who.need("run")
            session = await sessions.create(
                owner=who.account,
                organisation=who.organisation,
                once=said.client_message_id or "",
                agent=said.agent,
                permission_mode=said.permission_mode,
                model=said.model,
                who=self._who,
            )
            if session.live.record.id not in self._following:  # a resend on the same socket
                self._subscribe(session, 0, None, ref=said.client_message_id)
        else:
            session = await self._in(said.chat_id, who)
            if said.agent is not None and said.agent != session.live.record.agent:
                raise Conflict(f"agent: this session's agent is {session.live.record.agent}")
        if said.steer:
            await session.jobs.steer(said.message, who.label, said.client_message_id, who.account)
            return
        job = sessions.job(
            session,
            said.message,
            who.label,
            account=who.account,
            permission_mode=said.permission_mode,
            allowed_tools=said.allowed_tools,
            max_cost_usd=said.max_cost_usd,
            max_tokens=said.max_tokens,
            model=said.model,
            origin=Origin.of(who),
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
        self._following[sid], self._followed[sid] = task, session
        task.add_done_callback(lambda done: self._forget(sid, done))

    def _forget(self, sid: SessionId, done: asyncio.Task[None]) -> None:
        if self._following.get(sid) is done:
            del self._following[sid], self._followed[sid]
        if not done.cancelled() and done.exception() is not None:
            _log.error("following failed", exc_info=done.exception())
            self.socket.close(CLOSE_FAILED, "come back with your cursor")  # never silence

    async def _unsubscribe(self, session: SessionId) -> None:
        task = self._following.pop(session, None)
        self._followed.pop(session, None)
        if task is None:
            raise NotFound("This socket does not follow that session.")
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def _follow(self, session: Session, after: int, epoch: str | None, ref: str | None) -> None:
        sid = session.live.record.id
        log = self._platform.kit.log
        oldest = await log.oldest(sid)
        head = await session.live.head_for(after)
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
        self._send(chat.Rejected(code="not_found", message=GONE, ref=sid))


def _ref(said: chat.ClientMessage) -> str | None:
    for name in ("client_message_id", "approval_id", "question_id", "chat_id"):
        value = getattr(said, name, None)
        if isinstance(value, str):
            return value
    return None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
