"""Channels: what is published to them goes to whoever subscribes at that moment. Channels of two organisations never
meet, whatever they are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilothouse.core import publish
from pilothouse.core.channels import Channel, Pattern
from pilothouse.core.namespaces import USUAL, Namespace
from pilothouse.core.publish import EVENT_MAX, Event, Failed, Taken
from pilothouse.engine import records
from pilothouse.engine.fanout import Fanout, Feed, Subscriber

TOO_LARGE = f"Transformed event is larger than {EVENT_MAX // 1024}KB"


@dataclass(frozen=True, slots=True)
class Published:
    """Every event of a request is in one of the two, by its index."""

    taken: Sequence[Taken]
    failed: Sequence[Failed]


class Subscription:
    """One subscriber's place on a feed."""

    __slots__ = ("_channels", "_key", "who")

    def __init__(self, channels: Channels, key: tuple[str, str], who: Subscriber) -> None:
        self._channels = channels
        self._key = key
        self.who = who

    def end(self) -> None:
        """From here on nothing is written."""
        self._channels._left(self._key, self.who)


class Channels:
    def __init__(self, namespaces: Sequence[Namespace] = USUAL) -> None:
        self._namespaces = {one.name: one for one in namespaces}
        self._fanout = Fanout()
        self._feeds: dict[tuple[str, str], Feed] = {}

    def namespace(self, name: str) -> Namespace | None:
        return self._namespaces.get(name)

    def subscribe(self, organisation: str, pattern: Pattern, who: Subscriber) -> Subscription:
        """From now on."""
        key = (organisation, pattern.path)
        feed = self._feeds.get(key)
        if feed is None:
            feed = self._feeds[key] = Feed(self._fanout)
        feed.join(who)
        return Subscription(self, key, who)

    async def publish(self, organisation: str, channel: Channel, events: Sequence[Event]) -> Published:
        """In the order of the events, and of the calls."""
        taken: list[Taken] = []
        failed: list[Failed] = []
        rests: list[bytes] = []
        for index, event in enumerate(events):
            identifier = records.new_id()
            if publish.too_large(event):
                failed.append(Failed(identifier, index, "EventTooLargeException", TOO_LARGE))
            else:
                taken.append(Taken(identifier, index))
                rests.append(publish.rest(event))
        feeds = self._of(organisation, channel)
        for feed, _ in feeds:
            if feed.crowded:
                await feed.room()
        for feed, wild in self._of(organisation, channel):
            feed.push(
                [
                    (feed.head + number, publish.named(rest, channel) if wild else rest)
                    for number, rest in enumerate(rests, 1)
                ]
            )
        return Published(taken, failed)

    def _of(self, organisation: str, channel: Channel) -> list[tuple[Feed, bool]]:
        """Who subscribes to it: the feeds, and whether by a wildcard."""
        found = [(feed, True) for path in channel.wildcards() if (feed := self._feeds.get((organisation, path)))]
        exact = self._feeds.get((organisation, channel.path))
        return [*found, *([(exact, False)] if exact is not None else [])]

    def _left(self, key: tuple[str, str], who: Subscriber) -> None:
        feed = self._feeds[key]
        feed.leave(who)
        if not len(feed):
            feed.close()
            del self._feeds[key]
