"""Notices: to whom what happens is told, and whether it still is when it is sent.

Whether a person may see the session (or answer, where an answer is wanted) is asked when the notice is made, and again
when it is sent; an approval that was answered meanwhile is not announced any more. What was not sent says why.
"""

from __future__ import annotations

import secrets
from collections import defaultdict, deque
from collections.abc import Callable

import msgspec

from pilothouse.core import access, notice, webhook
from pilothouse.core import events as ev
from pilothouse.core.access import SCOPES, Principal
from pilothouse.core.errors import Conflict, Unauthenticated, Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.core.notice import Notice
from pilothouse.engine import records, signins
from pilothouse.engine.couriers import Couriers
from pilothouse.engine.deliveries import DeliveryRecord, Request, Withheld
from pilothouse.engine.herald import Told
from pilothouse.engine.members import Members
from pilothouse.engine.notifier import NotifierRecord, Sealed
from pilothouse.engine.notifiers import Notifiers
from pilothouse.engine.records import ApprovalRecord, JobRecord, QuestionRecord, SessionRecord
from pilothouse.engine.sessions import Sessions
from pilothouse.engine.vapid import Push, Vapid

TTL_S = 3600
"""So long a push service keeps what its browser has not fetched."""
FLOOD_MAX, FLOOD_S = 20, 60.0
"""Notices to one notifier in that time: an agent can ask without end, and a person is told by the first ones."""
_AGAIN = frozenset({408, 425, 429})


class Notices:
    """`herald.People`, and a `deliveries.Sender`."""

    def __init__(
        self,
        sessions: Sessions,
        members: Members,
        notifiers: Notifiers,
        vapid: Vapid,
        push: Push,
        page: Callable[[], str],
        contact: str = "",
    ) -> None:
        """`contact`: whom a push service may ask about us; a mailto: or https: address."""
        self._sessions = sessions
        self._store = sessions.kit.store
        self._clock = sessions.kit.clock
        self._members = members
        self._notifiers = notifiers
        self._vapid = vapid
        self._push = push
        self._page = page
        self._contact = contact
        self._sent: defaultdict[str, deque[float]] = defaultdict(deque)
        self.couriers: Couriers | None = None
        """Set by whoever makes both."""
        notifiers.on_end.append(self._ended)

    async def test(self, who: Principal, id: str) -> DeliveryRecord:
        """Raises NotFound, Conflict."""
        record = self._notifiers.get(who, id)
        if record.disabled:
            raise Conflict(f"It is off ({record.disabled}).")
        assert self.couriers is not None
        now = self._clock.now()
        made = self._delivery(record, Notice(what="test"), now, "", secrets.randbits(53), now + TTL_S)
        await self._store.commit(*await self.couriers.promise([made]))
        self.couriers.accepted([made])
        return made

    # --- what happens ---

    def since(self, organisation: str) -> float | None:
        found = [n.record for n in self._notifiers.here.values() if n.record.organisation == organisation]
        return min((r.since(what) for r in found if not r.disabled for what in r.events), default=None)

    def deliveries(self, session: SessionRecord, event: Told, job: JobRecord | None, at: float) -> list[DeliveryRecord]:
        """To all who want this one and may see it."""
        said = _notice(session, event)
        asked = job.askers if job is not None else []
        until = getattr(event, "expires_at", None)
        expires = records.seconds(until) if until else at + TTL_S
        return [
            self._delivery(r, said, at, session.id, event.seq, expires)
            for r in (n.record for n in list(self._notifiers.here.values()))
            if r.organisation == session.organisation
            and said.what in r.events
            and not r.disabled
            and at >= r.since(said.what)
            and (r.sessions == "all" or r.account == session.owner or r.account in asked)
            and self._may(r, session, said.what)
            and not (isinstance(event, ev.ApprovalRequired) and event.second_approver and r.account in asked)
        ]

    # --- as a sender ---

    async def request(self, delivery: DeliveryRecord) -> Request | Withheld:
        found = self._notifiers.here.get(delivery.target)
        if found is None or found.record.disabled:
            return Withheld("It was switched off meanwhile.")
        said, record = msgspec.json.decode(delivery.body, type=Notice), found.record
        why = await self._stale(record, said)
        if why:
            return Withheld(why)
        if delivery.expires_at is not None and self._clock.now() > delivery.expires_at:
            return Withheld("It came too late to be told.")
        if delivery.attempts == 0 and self._floods(record.id):
            return Withheld(f"There were more than {FLOOD_MAX} within a minute.")
        if found.open is None:
            raise Unavailable("Its address cannot be read: the key file that sealed it is missing, or another one.")
        if found.open.keys is None:
            return Request(found.open.url, {"content-type": "application/json"}, notice.slack(said, self._page()))
        return await self._to_browser(found.open, said, delivery.expires_at)

    async def _to_browser(self, open: Sealed, said: Notice, until: float | None) -> Request:
        assert open.keys is not None
        now = self._clock.now()
        page = self._page()
        headers, body = self._push.message(
            await self._vapid.key(),
            open.url,
            open.keys.p256dh,
            open.keys.auth,
            notice.pushed(said),
            subject=self._contact or (page if page.startswith("https://") else "mailto:admin@localhost"),
            now=now,
            ttl=max(int((until or now + TTL_S) - now), 1),
            topic=(said.session or "test").replace("-", "")[:32],
        )
        return Request(open.url, headers, body)

    async def gone(self, delivery: DeliveryRecord, status: int) -> None:
        """404 and 410: of a browser the subscription is over; a webhook is for its person to mend."""
        found = self._notifiers.here.get(delivery.target)
        if found is None:
            return
        if found.record.kind == "push":
            await self._notifiers.end(found.record)
        else:
            await self._notifiers.disable(found.record, f"its receiver answered {status}")

    def patience(self, status: int | None) -> bool:
        return status is None or status >= 500 or status in _AGAIN

    async def _stale(self, record: NotifierRecord, said: Notice) -> str:
        """Why it is not to be sent any more."""
        if record.sign_in and not await self._signed_in(record.sign_in):
            return "The sign-in of this browser has ended."
        if said.what == "test":
            return "" if self._principal(record) is not None else "The account is no member any more."
        doc = await self._store.get("session", said.session)
        here = self._sessions.here(SessionId(said.session))
        if doc is None:
            return "The session is gone."
        session = here.live.record if here is not None else records.load(doc, SessionRecord)
        if not self._may(record, session, said.what):
            return "Its person may not see the session any more."
        if said.what == "approval" and not await self._open(said.id, "approval", ApprovalRecord):
            return "It was answered meanwhile."
        if said.what == "question" and not await self._open(said.id, "question", QuestionRecord):
            return "It was answered meanwhile."
        return ""

    async def _open(self, id: str, kind: str, type: type[ApprovalRecord] | type[QuestionRecord]) -> bool:
        doc = await self._store.get(kind, id)
        return doc is not None and records.load(doc, type).state == "pending"

    async def _signed_in(self, sign_in: str) -> bool:
        doc = await self._store.get("signin", sign_in)
        return doc is not None and signins.decode(doc).expires_at > self._clock.now()

    def _principal(self, record: NotifierRecord) -> Principal | None:
        """As whom it is told: the person, with the rights of now."""
        account, scopes = record.account, frozenset(SCOPES)
        as_given = Principal(
            "person", account, account, account, scopes, f"notifier:{record.id}", organisation=record.organisation
        )
        try:
            return self._members.now(as_given)
        except Unauthenticated:
            return None

    def _may(self, record: NotifierRecord, session: SessionRecord, what: notice.What) -> bool:
        """Who is needed has to be able to answer; who is only told, to look."""
        who = self._principal(record)
        return who is not None and ("approve" if what in notice.NEEDS else "read") in access.rights(who, session)

    def _floods(self, id: str) -> bool:
        sent, now = self._sent[id], self._clock.now()
        while sent and sent[0] <= now - FLOOD_S:
            sent.popleft()
        if len(sent) >= FLOOD_MAX:
            return True
        sent.append(now)
        return False

    async def _ended(self, id: str) -> None:
        """A notifier is no more, and nothing that was meant for it."""
        self._sent.pop(id, None)
        if self.couriers is not None:
            self.couriers.drop(id)
            await self.couriers.deliveries.forget(id)

    @staticmethod
    def _delivery(
        record: NotifierRecord, said: Notice, at: float, session: str, seq: int, expires: float
    ) -> DeliveryRecord:
        return DeliveryRecord(
            id=webhook.message_id(record.id, session, seq, said.what, at),
            target=record.id,
            kind=record.kind,
            type=said.what,
            session_id=SessionId(session) if session else None,
            body=msgspec.json.encode(said).decode(),
            created_at=at,
            expires_at=expires,
        )


def _notice(session: SessionRecord, event: Told) -> Notice:
    title = notice.line(session.title, notice.TITLE_MAX)
    match event:
        case ev.ApprovalRequired():
            tool = notice.line(event.tool, notice.TOOL_MAX)
            return Notice(what="approval", session=session.id, title=title, about=tool, id=event.approval_id)
        case ev.QuestionEvent():
            return Notice(what="question", session=session.id, title=title, id=event.question_id)
        case ev.Complete():
            return Notice(what="job", session=session.id, title=title, about=event.outcome)
