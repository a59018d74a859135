"""Settings of what others are told: the event API with its authorizer and handlers, webhooks, notifications."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilothouse.core import namespaces, reach
from pilothouse.core.access import ORGANISATION
from pilothouse.core.authorizer import CONNECTIONS_MAX, TTL_MAX
from pilothouse.core.modes import MODES
from pilothouse.core.namespaces import Namespace
from pilothouse.core.reach import Target
from pilothouse.core.setting import setting


@dataclass(frozen=True)
class EventSettings:
    namespaces: tuple[Namespace, ...] = setting(
        (),
        "Where the event API publishes: tables `[[namespaces]]`, see [protocol/events.md](../protocol/events.md). "
        "Without any there is `default`.",
        key="namespaces",
    )
    event_modes: tuple[str, ...] = setting(
        (),
        "Auth modes that may open a connection to the event API, such as `API_KEY`; none named: all.",
        key="events.connect_modes",
        env="PILOTHOUSE_EVENT_MODES",
    )
    event_connections: int = setting(
        CONNECTIONS_MAX,
        "Connections to the event API of a key or person at one time.",
        key="events.connections",
        env="PILOTHOUSE_EVENT_CONNECTIONS",
        low=1,
    )
    authorizer: str = setting(
        "",
        "The event API's custom authorizer: `https://...`, or `package.module:callable`.",
        key="events.authorizer",
        env="PILOTHOUSE_EVENT_AUTHORIZER",
    )
    authorizer_ttl_s: int = setting(
        0,
        "Seconds for which its answer counts when it does not say; 0: for that one question.",
        key="events.authorizer_ttl_s",
        env="PILOTHOUSE_EVENT_AUTHORIZER_TTL_S",
        low=0,
        high=TTL_MAX,
    )
    authorizer_pattern: str = setting(
        "",
        "A regular expression that a token must match before the authorizer is asked.",
        key="events.authorizer_pattern",
        env="PILOTHOUSE_EVENT_AUTHORIZER_PATTERN",
    )
    authorizer_organisation: str = setting(
        ORGANISATION,
        "The organisation to which its callers belong.",
        key="events.authorizer_organisation",
        env="PILOTHOUSE_EVENT_AUTHORIZER_ORGANISATION",
    )
    hook_secret: str = setting(
        "",
        "What requests to authorizer and handlers are signed with.",
        key="events.hook_secret",
        env="PILOTHOUSE_HOOK_SECRET",
        secret=True,
    )
    hooks_allow_private: tuple[str, ...] = setting(
        (),
        "`HOST:PORT` of authorizer and handlers whose address is not a public one.",
        key="events.hooks_allow_private",
        env="PILOTHOUSE_HOOKS_ALLOW_PRIVATE",
    )
    webhooks_allow_private: tuple[str, ...] = setting(
        (),
        "`HOST:PORT` of webhooks and notifications whose address is not a public one; they may be plain http.",
        key="webhooks.allow_private",
        env="PILOTHOUSE_WEBHOOKS_ALLOW_PRIVATE",
    )
    notifications_contact: str = setting(
        "",
        "Whom push services may ask about this server: `mailto:…` or `https://…`. Empty: the page's address.",
        key="notifications.contact",
        env="PILOTHOUSE_NOTIFICATIONS_CONTACT",
    )

    @property
    def webhook_targets(self) -> tuple[Target, ...]:
        return tuple(map(reach.target, self.webhooks_allow_private))


def wrong(settings: EventSettings) -> str:
    """Empty when nothing is."""
    unknown = next((mode for mode in settings.event_modes if mode not in MODES), None)
    if unknown is not None:
        return f"events.connect_modes: {unknown!r} is none of {', '.join(MODES)}"
    try:
        if settings.authorizer:
            namespaces.hook(settings.authorizer, "events.authorizer")
        re.compile(settings.authorizer_pattern)
        for text in settings.hooks_allow_private:
            reach.target(text)
    except namespaces.BadNamespace as error:
        return str(error)
    except re.error as error:
        return f"events.authorizer_pattern: {error}"
    except reach.BadTarget as error:
        return f"events.hooks_allow_private: {text!r}: {error}"
    if settings.notifications_contact and not re.match(r"(mailto:|https://)[!-~]+\Z", settings.notifications_contact):
        return "notifications.contact: expected mailto:… or https://…"
    try:
        for text in settings.webhooks_allow_private:
            reach.target(text)
    except reach.BadTarget as error:
        return f"webhooks.allow_private: {text!r}: {error}"
    return ""
