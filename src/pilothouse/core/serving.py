"""Settings of the server: where it listens, what stands in front, how often somebody may, what its log says."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilothouse.core import bucket, forwarded, hosts
from pilothouse.core.setting import setting

PORT = 8420
_BASE = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+\Z")
OWN_PATHS = frozenset({"api", "ws", "assets", "event", "healthz", "metrics", "readyz"})
"""First words of our own addresses: no sub-path begins with one, or an address would have two meanings."""
LOOPBACK_BINDS = frozenset({"127.0.0.1", "::1", "localhost"})
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "0": "127.0.0.1"}  # noqa: S104  asked about, not listened on
"""What listens on every address, and where this machine itself reaches it."""
NOBODYS = frozenset({"", *WILDCARDS, "[::]"})
"""No names of anybody: a page reaches any server by such an address."""
_ORIGIN = re.compile(r"https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?\Z")


@dataclass(frozen=True)
class ServerSettings:
    host: str = setting("127.0.0.1", "Address to listen on.", key="server.host", env="PILOTHOUSE_HOST")
    port: int = setting(
        PORT, "Port to listen on; 0 takes a free one.", key="server.port", env="PILOTHOUSE_PORT", low=0, high=65_535
    )
    hosts: tuple[str, ...] = setting(
        (), "Further host names the server answers to, besides loopback.", key="server.hosts", env="PILOTHOUSE_HOSTS"
    )
    user: str = setting(
        "",
        "Whom a server that is started as root becomes: a name or number, or root to stay root. Empty: the user "
        "pilothouse, or a number of this installation's own.",
        key="server.user",
        env="PILOTHOUSE_USER",
    )
    keeper: str = setting(
        "start",
        "start: the server starts the keeper when there is none; attach: the machine's service manager does.",
        key="server.keeper",
        env="PILOTHOUSE_KEEPER",
        choices=("start", "attach"),
    )
    cors_origins: tuple[str, ...] = setting(
        (), "Origins whose pages may call with a key.", key="server.cors_origins", env="PILOTHOUSE_CORS_ORIGINS"
    )
    behind_proxy: bool = setting(
        False,
        "A TLS proxy stands in front, and is the way in for others.",
        key="server.behind_proxy",
        env="PILOTHOUSE_BEHIND_PROXY",
    )
    trusted_proxies: tuple[str, ...] = setting(
        (),
        "Addresses or networks of the proxies in front whose forwarded headers are believed.",
        key="server.trusted_proxies",
        env="PILOTHOUSE_TRUSTED_PROXIES",
    )
    forwarded: str = setting(
        "x-forwarded",
        "Which headers those proxies write: `X-Forwarded-For`, `-Proto`, `-Host`, or `Forwarded` (RFC 7239).",
        key="server.forwarded",
        env="PILOTHOUSE_FORWARDED",
        choices=("x-forwarded", "forwarded"),
    )
    base_path: str = setting(
        "",
        "Path below which a proxy serves all this, such as `/pilothouse`; whether it cuts the path off or not.",
        key="server.base_path",
        env="PILOTHOUSE_BASE_PATH",
    )
    sigv4_region: str = setting(
        "",
        "The AWS region that signed requests must name; empty: any.",
        key="server.sigv4_region",
        env="PILOTHOUSE_SIGV4_REGION",
    )
    hot_sockets: bool = setting(
        True,
        "Serve WebSockets by picows; off: by the plain ASGI route.",
        key="server.hot_sockets",
        env="PILOTHOUSE_HOT_SOCKETS",
    )
    log_format: str = setting(
        "text",
        "How the server's own log is written.",
        key="server.log_format",
        env="PILOTHOUSE_LOG_FORMAT",
        choices=("text", "json"),
    )
    access_log: str = setting(
        "auto",
        "A line in that log for each request: `auto` where other machines reach the server.",
        key="server.access_log",
        env="PILOTHOUSE_ACCESS_LOG",
        choices=("auto", "on", "off"),
    )
    rate_per_s: float = setting(
        10.0,
        "Requests a second of a key that names no other rate; 0: no limit.",
        key="rate.per_s",
        env="PILOTHOUSE_RATE_PER_S",
        low=0,
        high=bucket.PER_S_MAX,
    )
    rate_burst: int = setting(
        20, "Requests at once.", key="rate.burst", env="PILOTHOUSE_RATE_BURST", low=1, high=bucket.BURST_MAX
    )
    quota_per_day: int = setting(
        1000,
        "Jobs a day (UTC) of a key or person; 0: no limit.",
        key="rate.quota_per_day",
        env="PILOTHOUSE_QUOTA_PER_DAY",
        low=0,
        high=bucket.QUOTA_MAX,
    )
    connections_max: int = setting(
        100,
        "Sockets and streams of a key or person at one time.",
        key="rate.connections",
        env="PILOTHOUSE_CONNECTIONS_MAX",
        low=1,
    )

    @property
    def names(self) -> frozenset[str]:
        """Whom a `Host` header may name. An address that stands for all is nobody's: pages can reach it."""
        mine = f"[{self.host}]" if ":" in self.host else self.host.lower()
        return frozenset({*hosts.LOOPBACK, *self.hosts, *({hosts.plain(mine)} - NOBODYS)})

    @property
    def logs_access(self) -> bool:
        reachable = self.host not in LOOPBACK_BINDS or self.behind_proxy or bool(self.trusted_proxies)
        return reachable if self.access_log == "auto" else self.access_log == "on"


def wrong(settings: ServerSettings) -> str:
    """Empty when nothing is. What would be compared and never match, or match too much, is: it would only seem to be
    set."""
    if not re.match(r"[A-Za-z0-9.:%_-]+\Z", settings.host):
        return f"server.host: {settings.host!r} is no address"
    for host in settings.hosts:
        if not host.isascii():
            return f"server.hosts: {host!r}: give it as browsers send it, in ASCII (xn--...)"
        if hosts.plain(host) != host or host in NOBODYS:
            return f"server.hosts: {host!r} is no host name; give it in lower case, without scheme, port and path"
    try:
        forwarded.networks(settings.trusted_proxies)
    except ValueError as error:
        return f"server.trusted_proxies: '{error}' is no address and no network"
    if settings.base_path and (not _BASE.match(settings.base_path) or settings.base_path.split("/")[1] in OWN_PATHS):
        return (
            f"server.base_path: {settings.base_path!r} is no path for this; expected /WORD, without a slash at its "
            f"end, and not one of {', '.join(sorted(OWN_PATHS))}"
        )
    if not re.match(r"[a-z0-9-]{0,64}\Z", settings.sigv4_region):
        return f"server.sigv4_region: {settings.sigv4_region!r} is no region; expected one such as us-east-1"
    for origin in settings.cors_origins:
        if not _ORIGIN.match(origin):
            return f"server.cors_origins: {origin!r} is no origin; expected scheme://host[:port], in lower case"
    return ""
