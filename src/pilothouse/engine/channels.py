"""Channels: what is published to them goes to whoever subscribes, and into the history of those that have one.

Channels of two organisations never meet, whatever they are called. What exists here is what somebody uses: a channel
without subscribers and history is nothing at all.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from pilothouse.core import publish
from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.errors import BadRequest, TooMany
from pilothouse.core.handler import Outcome
from pilothouse.core.ids import SessionId
from pilothouse.core.namespaces import OWN, USUAL, Namespace
from pilothouse.core.publish import EVENT_MAX, Event, Failed, Taken
from pilothouse.engine import records
from pilothouse.engine.fanout import Fanout, Feed, Lost, Subscriber
from pilothouse.engine.handlers import NOBODY, Asker, Handlers
from pilothouse.engine.journals import Journal, log_id
from pilothouse.engine.log import timestamp
from pilothouse.engine.once import Once
from pilothouse.engine.ports import Clock, EventStore, Op, Page, Put, StoreFailed
from pilothouse.engine.presence import Presences

LARGE = "EventTooLargeException"
REFUSED = "HandlerError"
TOO_LARGE = f"Transformed event is larger than {EVENT_MAX // 1024}KB"
JOURNALS_MAX = 1000
"""Histories in memory that nobody uses at the moment, some 2 KB each; beyond, those used longest ago go."""
KEPT_MAX = 10_000
"""Channels of one organisation that have a history: each takes room in the store for good."""


PAUSE_S = 0.05
"""Between two histories that are looked after: people come first."""


@dataclass(frozen=True, slots=True)
class Published:
    """Every event of a request is in one of the two, by its index."""

    taken: Sequence[Taken]
    failed: Sequence[Failed]


@dataclass(frozen=True, slots=True)
class By:
    """Who publishes: for its keys, and for handlers."""

    holder: str = ""
    asker: Asker = NOBODY
    check: Callable[[], None] = lambda: None
    """Raises what its right to publish is missing at this moment: a handler may have taken its time."""


NOBODYS = By()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a subscription will begin."""

    organisation: str
    pattern: Pattern
    journal: Journal | None = None
    oldest: int = 0
    after: int | None = None
    gap: Lost | None = None


class _Feed(Feed):
    """Of one channel or wildcard."""

    def __init__(self, key: tuple[str, str], fanout: Fanout, journal: Journal | None) -> None:
        super().__init__(fanout, 0 if journal is None else journal.head, journal)
        self.key = key


class Subscription:
    """One subscriber's place on a feed."""

    __slots__ = ("_channels", "_feed", "who")

    def __init__(self, channels: Channels, feed: _Feed, who: Subscriber) -> None:
        self._channels = channels
        self._feed = feed
        self.who = who

    def end(self) -> None:
        """From here on nothing is written."""
        self._channels._left(self._feed, self.who)


class _Kept(msgspec.Struct, frozen=True, rename="camel"):
    """The document `channel`: that this one has a history."""

    organisation: str
    path: str
    since: str


class Channels:
    def __init__(
        self,
        store: EventStore,
        clock: Clock,
        namespaces: Sequence[Namespace] = USUAL,
        handlers: Handlers | None = None,
    ) -> None:
        self.handlers = handlers or Handlers()
        self._store = store
        self._clock = clock
        self._namespaces = {one.name: one for one in (*OWN, *namespaces)}
        self.fanout = Fanout()
        self.published = 0
        """Events taken, those that are sent again by their key not counted again."""
        self._feeds: dict[tuple[str, str], _Feed] = {}
        self._journals: OrderedDict[tuple[str, str], Journal] = OrderedDict()
        self._kept: dict[str, set[SessionId]] = {}
        self.presences = Presences()
        self.once = Once(store, clock)

    @property
    def epoch(self) -> str:
        return self._store.epoch

    @property
    def subscriptions(self) -> int:
        return sum(map(len, self._feeds.values()))

    def namespace(self, name: str) -> Namespace | None:
        return self._namespaces.get(name)

    async def start(self) -> None:
        """Once, before anybody is served. Raises StoreFailed."""
        for _, doc in await self._store.scan("channel", limit=records.EVERY):
            found = msgspec.json.decode(doc, type=_Kept)
            self._kept.setdefault(found.organisation, set()).add(log_id(found.organisation, Channel(found.path)))

    # --- subscribing ---

    def place_at_once(self, organisation: str, pattern: Pattern, after: int | None) -> Place | None:
        """The same for what is in no history, without a cursor. None: `place` says."""
        namespace = self._namespaces[pattern.namespace]
        if after is not None or namespace.built_in or (namespace.keeps and not pattern.wild):
            return None
        return Place(organisation, pattern)

    async def place(
        self, organisation: str, pattern: Pattern, after: int | None = None, epoch: str | None = None
    ) -> Place:
        """Raises BadRequest, StoreFailed."""
        namespace = self._namespaces[pattern.namespace]
        channel = pattern.channel
        if channel is None or not namespace.keeps:
            if after is not None:
                kept = f"this channel keeps no history; `history = N` in the namespace {namespace.name} gives it one"
                what = "a wildcard has no cursor" if channel is None else kept
                raise BadRequest(f"after: {what}")
            return Place(organisation, pattern)
        journal = await self._journal(organisation, channel, namespace)
        oldest = await journal.oldest()
        gap = None
        if after is None:
            after = max(journal.head - namespace.replay, oldest - 1) if namespace.replay else None
        elif after > journal.head or (epoch is not None and epoch != self.epoch):
            after, gap = oldest - 1, Lost(1, oldest - 1)  # of another log: what it has seen of this one nobody knows
        elif after + 1 < oldest:
            after, gap = oldest - 1, Lost(after + 1, oldest - 1)
        return Place(organisation, pattern, journal, oldest, after, gap)

    def subscribe(self, place: Place, who: Subscriber) -> Subscription:
        key = (place.organisation, place.pattern.path)
        feed = self._feeds.get(key)
        if feed is None:
            journal = place.journal
            if journal is not None:
                journal = self._journals.setdefault(key, journal)
            feed = self._feeds[key] = _Feed(key, self.fanout, journal)
        feed.join(who, place.after)
        return Subscription(self, feed, who)

    def _left(self, feed: _Feed, who: Subscriber) -> None:
        feed.leave(who)
        if not feed:
            feed.close()
            del self._feeds[feed.key]

    async def history(self, organisation: str, channel: Channel, after: int, limit: int) -> Page | None:
        """None: it keeps none. Raises StoreFailed."""
        namespace = self._namespaces[channel.namespace]
        if not namespace.keeps:
            return None
        return await (await self._journal(organisation, channel, namespace)).page(after, limit)

    # --- publishing ---

    async def publish(
        self, organisation: str, channel: Channel, events: Sequence[Event], by: By = NOBODYS, key: str | None = None
    ) -> Published:
        """In the order of the events, and of the calls; what somebody sends again by its key is not published again.
        Raises StoreFailed, TooMany, Conflict, Bad, HandlerFailed, Unauthenticated, Forbidden: nothing was published."""
        if key is None:
            published, fit = await self._handled(channel, events, by)
            await self._deliver(organisation, channel, fit)
            return published

        async def act(answered: Callable[[Sequence[Taken], Sequence[Failed]], Sequence[Op]]) -> None:
            published, fit = await self._handled(channel, events, by)
            await self._deliver(organisation, channel, fit, *answered(published.taken, published.failed))

        done = await self.once.do(by.holder, channel, key, events, act)
        return Published(done.taken, done.failed)

    def open_at_once(
        self, organisation: str, channel: Channel, events: Sequence[Event]
    ) -> Sequence[tuple[Feed, bool]] | None:
        """Whom `deliver_at_once` would reach, where no handler looks, nothing is kept and nobody has to be waited for.
        None: `publish` says."""
        namespace = self._namespaces[channel.namespace]
        if namespace.built_in or namespace.keeps or namespace.on_publish or any(map(publish.too_large, events)):
            return None
        feeds = self._of(organisation, channel)
        return None if any(feed.crowded for feed, _ in feeds) else feeds

    def deliver_at_once(
        self, feeds: Sequence[tuple[Feed, bool]], channel: Channel, events: Sequence[Event]
    ) -> list[Taken]:
        """To those whom `open_at_once` has just found."""
        if feeds:
            self._push(feeds, channel, [publish.rest(event) for event in events])
        self.published += len(events)
        return [Taken(records.new_id(), index) for index in range(len(events))]

    async def _handled(self, channel: Channel, events: Sequence[Event], by: By) -> tuple[Published, list[Event]]:
        """What goes out after the handler has seen it, and what becomes of each event."""
        named = [(records.new_id(), event) for event in events]
        fits = [(id, event) for id, event in named if not publish.too_large(event)]
        failed = {id: (LARGE, TOO_LARGE) for id, event in named if publish.too_large(event)}
        namespace = self._namespaces[channel.namespace]
        if not failed and not namespace.on_publish:
            return Published([Taken(id, index) for index, (id, _) in enumerate(named)], []), list(events)
        outcome = await self.handlers.publish(namespace, channel, fits, by.asker) if fits else Outcome()
        by.check()
        failed |= {id: (REFUSED, why) for id, why in outcome.failed.items()}
        failed |= {id: (LARGE, TOO_LARGE) for id, event in outcome.events if publish.too_large(event)}
        taken = [Taken(id, index) for index, (id, _) in enumerate(named) if id not in failed]
        told = [Failed(id, index, *failed[id]) for index, (id, _) in enumerate(named) if id in failed]
        return Published(taken, told), [event for id, event in outcome.events if id not in failed]

    async def _deliver(self, organisation: str, channel: Channel, events: Sequence[Event], *ops: Op) -> None:
        """Raises StoreFailed, TooMany."""
        feeds = self._of(organisation, channel)
        for feed, _ in feeds:
            if feed.crowded:
                await feed.room()
                feeds = self._of(organisation, channel)  # others have come and gone
        namespace = self._namespaces[channel.namespace]
        if not events:
            return
        if not namespace.keeps:
            self._push(feeds, channel, [publish.rest(event) for event in events])
            self.published += len(events)
            return
        journal = await self._journal(organisation, channel, namespace)
        at = timestamp(self._clock.now())
        first = self._first(organisation, channel, at)
        try:
            await journal.append([publish.kept(event, at) for event in events], *first, *ops)
        except StoreFailed:
            if first:
                self._kept[organisation].discard(log_id(organisation, channel))
            raise
        self.published += len(events)

    def _first(self, organisation: str, channel: Channel, at: str) -> list[Op]:
        """What to write with the first event of a channel. Raises TooMany."""
        kept, log = self._kept.setdefault(organisation, set()), log_id(organisation, channel)
        if log in kept:
            return []
        if len(kept) >= KEPT_MAX:
            raise TooMany(f"{KEPT_MAX} channels have a history already.")
        kept.add(log)
        return [Put("channel", log, msgspec.json.encode(_Kept(organisation, channel.path, at)), organisation)]

    def _push(self, feeds: Sequence[tuple[Feed, bool]], channel: Channel, rests: Sequence[bytes]) -> None:
        for feed, wild in feeds:
            named = [publish.named(rest, channel) for rest in rests] if wild else rests
            feed.push(list(enumerate(named, feed.head + 1)))

    def _push_kept(self, organisation: str, channel: Channel, rows: Sequence[tuple[int, bytes]]) -> None:
        for feed, wild in self._of(organisation, channel):
            if wild:
                feed.push([(n, publish.named(rest, channel)) for n, (_, rest) in enumerate(rows, feed.head + 1)])
            else:
                feed.push(rows)

    def _of(self, organisation: str, channel: Channel) -> list[tuple[Feed, bool]]:
        """Who subscribes to it: the feeds, and whether by a wildcard."""
        found = [(feed, True) for path in channel.wildcards() if (feed := self._feeds.get((organisation, path)))]
        exact = self._feeds.get((organisation, channel.path))
        return [*found, *([(exact, False)] if exact is not None else [])]

    async def upkeep(self) -> None:
        """Old keys, and what is too old in histories that nobody uses. Raises StoreFailed."""
        await self.once.sweep()
        for _, doc in await self._store.scan("channel", limit=records.EVERY):
            kept = msgspec.json.decode(doc, type=_Kept)
            channel = Channel(kept.path)
            namespace = self._namespaces.get(channel.namespace)
            if namespace is not None and namespace.keeps:
                await (await self._journal(kept.organisation, channel, namespace)).oldest()
                await self._clock.sleep(PAUSE_S)

    async def _journal(self, organisation: str, channel: Channel, namespace: Namespace) -> Journal:
        """Open. Raises StoreFailed."""
        key = (organisation, channel.path)
        journal = self._journals.get(key)
        if journal is None:
            journal = self._journals[key] = Journal(
                self._store,
                self._clock,
                organisation,
                channel,
                namespace,
                lambda rows: self._push_kept(organisation, channel, rows),
            )
            self._forget_some()
        self._journals.move_to_end(key)
        await journal.open()
        return journal

    def _forget_some(self) -> None:
        idle = [k for k, journal in self._journals.items() if not journal.users and k not in self._feeds]
        for key in idle[: max(len(idle) - JOURNALS_MAX, 0)]:
            del self._journals[key]
