"""A change that carries a key is made once, however often it is sent: what comes again gets the first one's answer.

Keys are each account's own. Before a change begins its key is written down, after it its answer: one whose server was
killed in between is known as begun, and nobody says of it that it was not made. What was refused has changed nothing,
and its key stands for nothing. An answer that shows a secret is not kept, nor one about what a session's agent asked,
which goes with the session: who sends that again is told how it is now. What was asked for is kept as an HMAC with a
key of the installation's own, since its body may be a password.
"""

from __future__ import annotations

import hashlib
import hmac
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

import msgspec

from pilothouse.core.access import Principal
from pilothouse.core.errors import Conflict, Forbidden, PilothouseError
from pilothouse.engine.kit import Kit
from pilothouse.engine.live import whole
from pilothouse.engine.ownkey import OwnKey
from pilothouse.engine.ports import Delete, Put, Sealer, StoreFailed
from pilothouse.engine.words import Words

KEY_S = 86_400.0
"""How long a key is remembered: a day, as elsewhere in this field."""
KEYS_MAX = 10_000
"""Of one account; of more the oldest are forgotten before their time, at the next round of upkeep."""
ANSWER_MAX = 256 * 1024
"""Bytes of an answer that is kept."""
KIND = "change"
SWEEP = 100
"""Documents looked at in one go: each may have an answer of ANSWER_MAX."""
OTHER = "idempotency-key: it was used for another request."
BEGUN = (
    "idempotency-key: this change was begun, and its end is not known. See whether it was made; to make it again, give "
    "another key."
)
LESS = "idempotency-key: this change was made with a credential that may more; its answer is not for this one."
SHOWN = (
    "idempotency-key: this change was made. Its answer is not kept, since it shows a secret once: take back what was "
    "made, and make it again with another key."
)


class Answer(msgspec.Struct, frozen=True):
    """As HTTP has it."""

    status: int
    headers: dict[str, str]
    body: bytes


class Change(msgspec.Struct, frozen=True):
    """The document `change`. `about`: what was asked for. No state `done`: nobody knows whether it was made."""

    holder: str
    about: str
    at: float
    may: list[str] = []
    """The scopes of the credential: the answer is for those that allow as much."""
    session: str = ""
    done: bool = False
    answer: Answer | None = None
    """None of one that is done: it is not kept."""


Act = Callable[[str], Awaitable[Answer]]
"""Given the change's own word: the same with each try, another where its key is used anew."""


class Repeats:
    def __init__(self, kit: Kit, sealer: Sealer) -> None:
        self._kit = kit
        self._store = kit.store
        self._key = OwnKey(kit.store, sealer, "changes", "changes")
        self._words = Words()
        self._refused: set[str] = set()
        """Names whose change was refused when the store took nothing: what it has of them is not so."""
        self._news: set[str] | None = None
        """While a sweep goes on: names written since it began, of which it may have seen what was there before."""

    @whole
    async def once(
        self,
        who: Principal,
        key: str,
        asked: bytes,
        act: Act,
        *,
        again: bool = False,
        keep: bool = True,
        now: Act | None = None,
        session: str = "",
    ) -> tuple[Answer, bool]:
        """The answer, and whether it is that of an earlier request.

        `asked`: all that makes two requests the same. `again`: making the change twice is the same as making it once,
        so one of which no answer is known is made again. `keep`: whether the answer may be kept. `now`: says of one
        that was made how it is now, where its answer is not kept. `session`: the one that it is about, with which its
        note goes. Raises Conflict, Forbidden, and what `act`, `now` and the store raise."""
        holder = _holder(who)
        name = hashlib.sha256(msgspec.json.encode([holder, key])).hexdigest()
        about = hmac.digest(await self._key.get(), asked, hashlib.sha256).hex()
        async with self._words.turn(name):
            known = await self._find(name)
            if known is None:
                change = Change(holder, about, self._kit.clock.now(), sorted(_scopes(who)), session)
                return await self._first(name, change, act, keep=keep), False
            if not hmac.compare_digest(known.about, about):
                raise Conflict(OTHER, reason="other")
            if known.answer is not None:
                if not _scopes(who).issuperset(known.may):
                    raise Forbidden(LESS)
                return known.answer, True
            if known.done and now is not None:
                return await now(_word(name, known)), True
            if not again:
                raise Conflict(SHOWN, reason="made") if known.done else Conflict(BEGUN, reason="begun")
            # Refused now, it may have been made before: its note stays.
            return await self._made(name, known, await act(_word(name, known)), keep=keep), False

    async def _first(self, name: str, change: Change, act: Act, *, keep: bool) -> Answer:
        await self._put(name, change)
        self._refused.discard(name)
        try:
            answer = await act(_word(name, change))
        except (PilothouseError, StoreFailed):  # nothing was changed
            await self._forget(name)
            raise
        return await self._made(name, change, answer, keep=keep)

    async def _made(self, name: str, change: Change, answer: Answer, *, keep: bool) -> Answer:
        kept = answer if keep and len(answer.body) <= ANSWER_MAX else None
        try:
            await self._put(name, msgspec.structs.replace(change, done=True, answer=kept))
        except StoreFailed:  # made all the same: who sends it again hears that it was begun
            self._kit.note("change_not_noted")
        return answer

    async def _find(self, name: str) -> Change | None:
        if name in self._refused:
            return None
        doc = await self._store.get(KIND, name)
        known = None if doc is None else msgspec.json.decode(doc, type=Change)
        return known if known is not None and self._kit.clock.now() < known.at + KEY_S else None

    async def _put(self, name: str, change: Change) -> None:
        if self._news is not None:
            self._news.add(name)
        await self._store.commit(Put(KIND, name, msgspec.json.encode(change), change.session))

    async def _forget(self, name: str) -> None:
        try:
            await self._store.commit(Delete(KIND, name))
        except StoreFailed:
            self._refused.add(name)
            self._kit.note("change_not_noted")

    async def sweep(self) -> None:
        """Forgets what is too old, and of each account what is too much. Raises StoreFailed."""
        news = self._news = set()
        try:
            await self._sweep(news)
        finally:
            self._news = None

    async def _sweep(self, news: set[str]) -> None:
        old, after = self._kit.clock.now() - KEY_S, ""
        count: Counter[str] = Counter()
        kept: list[tuple[float, str, str]] = []
        while rows := await self._store.scan(KIND, after=after, limit=SWEEP):
            after = rows[-1][0]
            known = [(name, msgspec.json.decode(doc, type=_Head)) for name, doc in rows]
            await self._drop([name for name, head in known if head.at <= old], news)
            for name, head in known:
                if head.at > old:
                    count[head.holder] += 1
                    kept.append((head.at, name, head.holder))
        more: list[str] = []
        for _, name, holder in sorted(kept):
            if count[holder] > KEYS_MAX:
                count[holder] -= 1
                more.append(name)
        await self._drop(more, news)

    async def _drop(self, names: list[str], news: set[str]) -> None:
        for start in range(0, len(names), SWEEP):
            gone = [name for name in names[start : start + SWEEP] if name not in news]
            if gone:
                await self._store.commit(*[Delete(KIND, name) for name in gone])


class _Head(msgspec.Struct, frozen=True):
    """As much of a `Change` as says whether it goes."""

    holder: str
    at: float


def _word(name: str, change: Change) -> str:
    return hashlib.sha256(f"{name} {change.at!r}".encode()).hexdigest()[:32]


def _scopes(who: Principal) -> frozenset[str]:
    """Those of its credential: sessions give theirs besides, and are asked again by whoever answers."""
    return who.scopes if who.most is None else who.most


def _holder(who: Principal) -> str:
    """Whose key it is: the account's; of a share link, which acts in its maker's place, the link's own."""
    own = f"link:{who.credential}" if who.session is not None else f"account:{who.account}"
    return f"{who.organisation} {own}"


def same(parts: Mapping[str, str], body: bytes) -> bytes:
    """What `Repeats.once` calls `asked`."""
    return msgspec.json.encode([dict(parts), hashlib.sha256(body).hexdigest()])
