"""Settings: one TOML file and the environment, made into one frozen `Config`. The only reader of `os.environ`.

Order: environment over file over default. The file is `<home>/pilothouse.toml`, or what `PILOTHOUSE_CONFIG` names.
Every setting is one field of `Config`; its metadata says where it stands in the file, in the environment and what it
is for. An unknown key, a wrong type or a value out of range is refused by name: nothing starts on a guess.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes.layout import LayoutError, private
from pilothouse.core import bucket, forwarded, hosts, issuers, namespaces, reach, second, sizes, storing, telemetry
from pilothouse.core.access import ORGANISATION
from pilothouse.core.authorizer import CONNECTIONS_MAX, TTL_MAX
from pilothouse.core.claims import Issuer
from pilothouse.core.errors import BadRequest
from pilothouse.core.limits import GIB, KINDS, Caps
from pilothouse.core.modes import MODES
from pilothouse.core.namespaces import Namespace
from pilothouse.core.policy import Pattern
from pilothouse.core.reach import Target
from pilothouse.core.setting import setting as _setting
from pilothouse.core.shell import SCROLLBACK, SCROLLBACK_MAX, SCROLLBACK_MIN
from pilothouse.core.storing import ArtifactSettings, Size
from pilothouse.core.telemetry import Telemetry

PORT = 8420
YEAR_S = 366 * 86_400
"""No time-out is longer: beyond it dates end."""
SOCKET_PATH_MAX = 107
"""Bytes of a unix socket's path; below `runtime` the longest name we make takes `_RUNTIME_TAIL` of them."""
_RUNTIME_TAIL = 60


NEVER_SCHEMES = frozenset({"file", "ext", "fd", "git-remote-ext"})
_BASE = re.compile(r"(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)+\Z")
OWN_PATHS = frozenset({"api", "ws", "assets", "event", "healthz", "metrics", "readyz"})
"""First words of our own addresses: no sub-path begins with one, or an address would have two meanings."""
LOOPBACK_BINDS = frozenset({"127.0.0.1", "::1", "localhost"})
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "0": "127.0.0.1"}  # noqa: S104  asked about, not listened on
"""What listens on every address, and where this machine itself reaches it."""
NOBODYS = frozenset({"", *WILDCARDS, "[::]"})
"""No names of anybody: a page reaches any server by such an address."""
_ORIGIN = re.compile(r"https?://([a-z0-9]([a-z0-9.-]*[a-z0-9])?|\[[0-9a-f:.]+\])(:[0-9]{1,5})?\Z")


_INHERITED = re.compile(
    r"(PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|SSL_CERT_(FILE|DIR)|VIRTUAL_ENV|LD_LIBRARY_PATH|(PYTHON|XDG_|PILOTHOUSE_)\w+)\Z"
)


class ConfigError(Exception):
    """A setting is wrong; the message names it."""


_TABLES: Mapping[str, Callable[[object], Any]] = {"issuers": issuers.read, "namespaces": namespaces.read}
"""What a file has as `[[name]]`."""


def _limit(name: str, doc: str, *, unset: bool = False) -> Any:
    kind = KINDS[name]
    default = None if unset else int(Caps().given(name))
    key, env = f"limits.{name}", f"PILOTHOUSE_LIMITS_{name.upper()}"
    return _setting(default, doc, key=key, env=env, low=kind.low, high=kind.high)


@dataclass(frozen=True)
class Config(ArtifactSettings):
    """What the programs are told. Paths are absolute; `runtime` is short enough for unix sockets."""

    home: Path = _setting(Path(), "Where everything is kept.", env="PILOTHOUSE_HOME")
    runtime: Path = _setting(Path(), "Where the sockets are; derived from `home`.", env="PILOTHOUSE_RUNTIME")

    host: str = _setting("127.0.0.1", "Address to listen on.", key="server.host", env="PILOTHOUSE_HOST")
    port: int = _setting(
        PORT, "Port to listen on; 0 takes a free one.", key="server.port", env="PILOTHOUSE_PORT", low=0, high=65_535
    )
    hosts: tuple[str, ...] = _setting(
        (), "Further host names the server answers to, besides loopback.", key="server.hosts", env="PILOTHOUSE_HOSTS"
    )
    user: str = _setting(
        "",
        "Whom a server that is started as root becomes: a name or number, or root to stay root. Empty: the user "
        "pilothouse, or a number of this installation's own.",
        key="server.user",
        env="PILOTHOUSE_USER",
    )
    keeper: str = _setting(
        "start",
        "start: the server starts the keeper when there is none; attach: the machine's service manager does.",
        key="server.keeper",
        env="PILOTHOUSE_KEEPER",
        choices=("start", "attach"),
    )
    cors_origins: tuple[str, ...] = _setting(
        (), "Origins whose pages may call with a key.", key="server.cors_origins", env="PILOTHOUSE_CORS_ORIGINS"
    )
    behind_proxy: bool = _setting(
        False,
        "A TLS proxy stands in front, and is the way in for others.",
        key="server.behind_proxy",
        env="PILOTHOUSE_BEHIND_PROXY",
    )
    trusted_proxies: tuple[str, ...] = _setting(
        (),
        "Addresses or networks of the proxies in front whose forwarded headers are believed.",
        key="server.trusted_proxies",
        env="PILOTHOUSE_TRUSTED_PROXIES",
    )
    forwarded: str = _setting(
        "x-forwarded",
        "Which headers those proxies write: `X-Forwarded-For`, `-Proto`, `-Host`, or `Forwarded` (RFC 7239).",
        key="server.forwarded",
        env="PILOTHOUSE_FORWARDED",
        choices=("x-forwarded", "forwarded"),
    )
    base_path: str = _setting(
        "",
        "Path below which a proxy serves all this, such as `/pilothouse`; whether it cuts the path off or not.",
        key="server.base_path",
        env="PILOTHOUSE_BASE_PATH",
    )
    tls_cert: Path | None = _setting(
        None,
        "Certificate with its chain, PEM; read again when it changes.",
        key="server.tls_cert",
        env="PILOTHOUSE_TLS_CERT",
    )
    tls_key: Path | None = _setting(
        None, "Its private key, PEM, not encrypted.", key="server.tls_key", env="PILOTHOUSE_TLS_KEY"
    )
    sigv4_region: str = _setting(
        "",
        "The AWS region that signed requests must name; empty: any.",
        key="server.sigv4_region",
        env="PILOTHOUSE_SIGV4_REGION",
    )
    hot_sockets: bool = _setting(
        True,
        "Serve WebSockets by picows; off: by the plain ASGI route.",
        key="server.hot_sockets",
        env="PILOTHOUSE_HOT_SOCKETS",
    )
    rate_per_s: float = _setting(
        10.0,
        "Requests a second of a key that names no other rate; 0: no limit.",
        key="rate.per_s",
        env="PILOTHOUSE_RATE_PER_S",
        low=0,
        high=bucket.PER_S_MAX,
    )
    rate_burst: int = _setting(
        20, "Requests at once.", key="rate.burst", env="PILOTHOUSE_RATE_BURST", low=1, high=bucket.BURST_MAX
    )
    quota_per_day: int = _setting(
        1000,
        "Jobs a day (UTC) of a key or person; 0: no limit.",
        key="rate.quota_per_day",
        env="PILOTHOUSE_QUOTA_PER_DAY",
        low=0,
        high=bucket.QUOTA_MAX,
    )
    connections_max: int = _setting(
        100,
        "Sockets and streams of a key or person at one time.",
        key="rate.connections",
        env="PILOTHOUSE_CONNECTIONS_MAX",
        low=1,
    )
    audit_days: int = _setting(
        365,
        "Days after which a record of the audit may go; 0: never.",
        key="store.audit_days",
        env="PILOTHOUSE_AUDIT_DAYS",
        low=0,
        high=36_600,
    )
    log_format: str = _setting(
        "text",
        "How the server's own log is written.",
        key="server.log_format",
        env="PILOTHOUSE_LOG_FORMAT",
        choices=("text", "json"),
    )
    access_log: str = _setting(
        "auto",
        "A line in that log for each request: `auto` where other machines reach the server.",
        key="server.access_log",
        env="PILOTHOUSE_ACCESS_LOG",
        choices=("auto", "on", "off"),
    )

    sandbox: str = _setting(
        "bubblewrap",
        "How sessions are isolated; `host` isolates nothing.",
        key="sandbox.kind",
        env="PILOTHOUSE_SANDBOX",
        choices=("bubblewrap", "host"),
    )
    allow_reduced: bool = _setting(
        False,
        "Run sessions with less isolation where this host gives no namespaces; docs/isolation.md says what is lost.",
        key="sandbox.allow_reduced",
        env="PILOTHOUSE_ALLOW_REDUCED",
    )
    idle_s: int = _setting(
        900,
        "Seconds without use after which a session is stopped.",
        key="sandbox.idle_s",
        env="PILOTHOUSE_IDLE_S",
        low=5,
        high=YEAR_S,
    )
    sessions_max: int = _setting(
        60, "Sessions alive at one time.", key="sandbox.sessions_max", env="PILOTHOUSE_SESSIONS_MAX", low=1
    )
    spares: int = _setting(
        1,
        "Sandboxes kept ready, with a runner started, so that a new session answers at once.",
        key="sandbox.spares",
        env="PILOTHOUSE_SPARES",
        low=0,
    )
    shell_idle_s: int = _setting(
        4 * 3600,
        "Seconds without output, input and viewers after which a shell is ended.",
        key="shells.idle_s",
        env="PILOTHOUSE_SHELL_IDLE_S",
        low=5,
        high=YEAR_S,
    )
    shell_life_s: int = _setting(
        8 * 3600,
        "Seconds after which a shell is ended in any case.",
        key="shells.life_s",
        env="PILOTHOUSE_SHELL_LIFE_S",
        low=5,
        high=YEAR_S,
    )
    shell_scrollback: Size = _setting(
        SCROLLBACK,
        "Output that is kept of a shell, for whoever comes back.",
        key="shells.scrollback",
        env="PILOTHOUSE_SHELL_SCROLLBACK",
        low=SCROLLBACK_MIN,
        high=SCROLLBACK_MAX,
    )
    git_schemes: tuple[str, ...] = _setting(
        ("https",), "Schemes a git source may have.", key="sandbox.git_schemes", env="PILOTHOUSE_GIT_SCHEMES"
    )
    egress: str = _setting(
        "allow",
        "What sessions reach besides the model.",
        key="egress.policy",
        env="PILOTHOUSE_EGRESS",
        choices=("off", "allow", "full"),
    )
    egress_domains: tuple[str, ...] = _setting(
        (
            "pypi.org",
            "files.pythonhosted.org",
            "registry.npmjs.org",
            "github.com",
            "*.githubusercontent.com",
            "gitlab.com",
            "bitbucket.org",
            "deb.debian.org",
            "crates.io",
            "*.crates.io",
            "proxy.golang.org",
        ),
        "Domains open under the policy `allow`, on ports 443 and 80 or as `HOST:PORT`; `*.` stands for any subdomain.",
        key="egress.domains",
        env="PILOTHOUSE_EGRESS_DOMAINS",
    )
    egress_ask: bool = _setting(
        True,
        "Whether a person is asked about a domain that is not listed; else it is refused at once.",
        key="egress.ask",
        env="PILOTHOUSE_EGRESS_ASK",
    )
    egress_allow_private: tuple[str, ...] = _setting(
        (),
        "`HOST:PORT` that sessions may reach although its address is not a public one; it must be a listed domain too.",
        key="egress.allow_private",
        env="PILOTHOUSE_EGRESS_ALLOW_PRIVATE",
    )

    limits_memory: Size | None = _limit(
        "memory", "Memory of a session, /tmp and /dev/shm in it. Unset: 4G, or half of the machine's.", unset=True
    )
    limits_processes: int = _limit("processes", "Processes and threads of a session.")
    limits_cpu: float | None = _limit("cpu", "Processors a session may keep busy, such as 1.5. Unset: all.", unset=True)
    limits_disk: Size = _limit("disk", "Workspace and home of a session together; taken as it is filled.")
    limits_files: int = _limit("files", "Files and directories on a session's disk.")
    limits_tmp: Size = _limit("tmp", "Size of /tmp in a session.")
    limits_shm: Size = _limit("shm", "Size of /dev/shm in a session.")
    limits_run: Size = _limit("run", "Size of /run in a session.")
    limits_image: bool = _setting(
        True,
        "A disk of its own (an ext4 image) for each new session where the host can; off: a plain directory.",
        key="limits.image",
        env="PILOTHOUSE_LIMITS_IMAGE",
    )

    agent: str = _setting(
        "claude",
        "Agent of a session that names none.",
        key="agent.default",
        env="PILOTHOUSE_AGENT",
        choices=("claude", "echo"),
    )
    permission_mode: str = _setting(
        "acceptEdits",
        "Permission mode of a session that names none.",
        key="agent.permission_mode",
        env="PILOTHOUSE_PERMISSION_MODE",
        choices=("acceptEdits", "manual", "acceptAll", "plan", "dontAsk"),
    )
    approval_timeout_s: int = _setting(
        300,
        "Seconds a person has to answer; then the call is denied.",
        key="agent.approval_timeout_s",
        env="PILOTHOUSE_APPROVAL_TIMEOUT_S",
        low=1,
        high=YEAR_S,
    )
    second_approver: tuple[str, ...] = _setting(
        (),
        "Tool calls that somebody other than whoever asked has to approve: `Tool`, or `Tool(pattern)`.",
        key="agent.second_approver",
        env="PILOTHOUSE_SECOND_APPROVER",
    )
    job_timeout_s: int = _setting(
        3600,
        "Seconds a job may take when it names no limit.",
        key="agent.job_timeout_s",
        env="PILOTHOUSE_JOB_TIMEOUT_S",
        low=1,
        high=YEAR_S,
    )

    issuers: tuple[Issuer, ...] = _setting(
        (),
        "Who may sign tokens and sign people in: tables `[[issuers]]`, see [docs/issuers.md](issuers.md).",
        key="issuers",
        secret=True,
    )

    namespaces: tuple[Namespace, ...] = _setting(
        (),
        "Where the event API publishes: tables `[[namespaces]]`, see [protocol/events.md](../protocol/events.md). "
        "Without any there is `default`.",
        key="namespaces",
    )

    event_modes: tuple[str, ...] = _setting(
        (),
        "Auth modes that may open a connection to the event API, such as `API_KEY`; none named: all.",
        key="events.connect_modes",
        env="PILOTHOUSE_EVENT_MODES",
    )
    event_connections: int = _setting(
        CONNECTIONS_MAX,
        "Connections to the event API of a key or person at one time.",
        key="events.connections",
        env="PILOTHOUSE_EVENT_CONNECTIONS",
        low=1,
    )
    authorizer: str = _setting(
        "",
        "The event API's custom authorizer: `https://...`, or `package.module:callable`.",
        key="events.authorizer",
        env="PILOTHOUSE_EVENT_AUTHORIZER",
    )
    authorizer_ttl_s: int = _setting(
        0,
        "Seconds for which its answer counts when it does not say; 0: for that one question.",
        key="events.authorizer_ttl_s",
        env="PILOTHOUSE_EVENT_AUTHORIZER_TTL_S",
        low=0,
        high=TTL_MAX,
    )
    authorizer_pattern: str = _setting(
        "",
        "A regular expression that a token must match before the authorizer is asked.",
        key="events.authorizer_pattern",
        env="PILOTHOUSE_EVENT_AUTHORIZER_PATTERN",
    )
    authorizer_organisation: str = _setting(
        ORGANISATION,
        "The organisation to which its callers belong.",
        key="events.authorizer_organisation",
        env="PILOTHOUSE_EVENT_AUTHORIZER_ORGANISATION",
    )
    hook_secret: str = _setting(
        "",
        "What requests to authorizer and handlers are signed with.",
        key="events.hook_secret",
        env="PILOTHOUSE_HOOK_SECRET",
        secret=True,
    )
    hooks_allow_private: tuple[str, ...] = _setting(
        (),
        "`HOST:PORT` of authorizer and handlers whose address is not a public one.",
        key="events.hooks_allow_private",
        env="PILOTHOUSE_HOOKS_ALLOW_PRIVATE",
    )

    webhooks_allow_private: tuple[str, ...] = _setting(
        (),
        "`HOST:PORT` of webhooks and notifications whose address is not a public one; they may be plain http.",
        key="webhooks.allow_private",
        env="PILOTHOUSE_WEBHOOKS_ALLOW_PRIVATE",
    )
    notifications_contact: str = _setting(
        "",
        "Whom push services may ask about this server: `mailto:…` or `https://…`. Empty: the page's address.",
        key="notifications.contact",
        env="PILOTHOUSE_NOTIFICATIONS_CONTACT",
    )

    provider: str = _setting(
        "auto",
        "Where the model is; `auto` takes what credentials are found, else the demo model.",
        key="model.provider",
        env="PILOTHOUSE_MODEL_PROVIDER",
        choices=("auto", "anthropic", "bedrock", "demo"),
    )
    model: str = _setting("", "The default model's id.", key="model.name", env="ANTHROPIC_MODEL")
    base_url: str = _setting("", "An Anthropic-compatible endpoint.", key="model.base_url", env="ANTHROPIC_BASE_URL")
    api_key: str = _setting("", "Anthropic API key.", key="model.api_key", env="ANTHROPIC_API_KEY", secret=True)
    auth_token: str = _setting(
        "", "Bearer token for the endpoint.", key="model.auth_token", env="ANTHROPIC_AUTH_TOKEN", secret=True
    )
    aws_region: str = _setting("", "Region of Amazon Bedrock.", key="model.aws_region", env="AWS_REGION")
    aws_profile: str = _setting("", "Profile of the AWS credential chain.", key="model.aws_profile", env="AWS_PROFILE")
    session_max_cost_usd: float | None = _setting(
        None,
        "What one session may spend in all, in USD.",
        key="model.session_max_cost_usd",
        env="PILOTHOUSE_SESSION_MAX_COST_USD",
        low=0,
    )
    job_max_cost_usd: float | None = _setting(
        None, "What one job may spend, in USD.", key="model.job_max_cost_usd", env="PILOTHOUSE_JOB_MAX_COST_USD", low=0
    )

    durability: str = _setting(
        "normal",
        "`normal` outlives a killed process, `full` a power loss too.",
        key="store.durability",
        env="PILOTHOUSE_DURABILITY",
        choices=("normal", "full", "memory"),
    )
    retention_events: int = _setting(
        200_000,
        "Events kept per session; older ones go, and viewers are told.",
        key="store.retention_events",
        env="PILOTHOUSE_RETENTION_EVENTS",
        low=100,
    )
    fold_after_s: int = _setting(
        86_400,
        "Seconds after a job's end when its text deltas are joined.",
        key="store.fold_after_s",
        env="PILOTHOUSE_FOLD_AFTER_S",
        low=0,
        high=YEAR_S,
    )

    remote_url: str = _setting("", "Server the command line calls; unset: this machine's own.", env="PILOTHOUSE_URL")
    remote_key: str = _setting("", "The command line's API key.", env="PILOTHOUSE_API_KEY", secret=True)
    editor: str = _setting("", "Editor in which the command line lets an input be changed.", env="EDITOR")
    no_color: str = _setting("", "Anything here turns the command line's colours off.", env="NO_COLOR")

    inherited: Mapping[str, str] = field(default_factory=dict, metadata={"derived": True, "secret": True})
    """What keeper and proxy, who outlive the server, have of its environment: no credential is among it."""
    aws_environment: Mapping[str, str] = field(default_factory=dict, metadata={"derived": True, "secret": True})
    """AWS_* of the environment, for the proxy's credential chain."""
    telemetry: Telemetry | None = field(default=None, metadata={"derived": True, "secret": True})
    """OTEL_* of the environment (docs/metrics.md)."""

    @property
    def local_key_file(self) -> Path:
        """0600: the key with which this machine's own command line calls; written by the server at its start."""
        return self.home / "local.key"

    @property
    def sealing_key_file(self) -> Path:
        """0600: what the secrets of key pairs are sealed with; made with the first of them."""
        return self.home / "sealing.key"

    @property
    def server_file(self) -> Path:
        """`{"url", "pid"}` of the running server."""
        return self.home / "server.json"

    @property
    def artifacts_folder(self) -> Path:
        return self.home / "artifacts"

    @property
    def database(self) -> Path:
        return self.home / "log.sqlite"

    @property
    def caps(self) -> Caps:
        """What a session may use that asks for nothing else, and at most."""
        half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        return Caps(
            memory=self.limits_memory or min(4 * GIB, half),
            processes=self.limits_processes,
            cpu=self.limits_cpu or float(os.cpu_count() or 1),
            disk=self.limits_disk,
            files=self.limits_files,
            tmp=self.limits_tmp,
            shm=self.limits_shm,
            run=self.limits_run,
        )

    @property
    def reach(self) -> reach.Reach:
        """What a session reaches that says nothing of its own."""
        policy = reach.policy(self.egress, "egress.policy")
        hold = min(self.approval_timeout_s, reach.HOLD_S) if self.egress_ask else 0.0
        return reach.Reach(policy, reach.domains(self.egress_domains, "egress.domains"), hold)

    @property
    def webhook_targets(self) -> tuple[Target, ...]:
        return tuple(map(reach.target, self.webhooks_allow_private))

    @property
    def second_approvals(self) -> tuple[Pattern, ...]:
        return second.patterns(self.second_approver)

    @property
    def tls(self) -> bool:
        return self.tls_cert is not None

    @property
    def url(self) -> str:
        """Where a person on this machine opens the server."""
        host = WILDCARDS.get(self.host, self.host)
        name = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls else 'http'}://{name}:{self.port}{self.base_path}"

    @property
    def page(self) -> str:
        """Where people open the page: by a name that the certificate has, where there is one."""
        if not self.tls or not self.hosts:
            return self.url
        port = "" if self.port == 443 else f":{self.port}"
        return f"https://{self.hosts[0]}{port}{self.base_path}"

    @property
    def names(self) -> frozenset[str]:
        """Whom a `Host` header may name. An address that stands for all is nobody's: pages can reach it."""
        mine = f"[{self.host}]" if ":" in self.host else self.host.lower()
        return frozenset({*hosts.LOOPBACK, *self.hosts, *({hosts.plain(mine)} - NOBODYS)})

    @property
    def logs_access(self) -> bool:
        reachable = self.host not in LOOPBACK_BINDS or self.behind_proxy or bool(self.trusted_proxies)
        return reachable if self.access_log == "auto" else self.access_log == "on"


def settings() -> list[dataclasses.Field[Any]]:
    """Every setting a user can give, for `pilothouse config` and the docs."""
    given = [f for f in dataclasses.fields(Config) if not f.metadata.get("derived")]
    return sorted(given, key=lambda f: f.name not in Config.__annotations__)  # those of a part come last


def load(
    environ: Mapping[str, str] | None = None, *, overrides: Mapping[str, Any] | None = None, make: bool = True
) -> Config:
    """Reads file and environment. `overrides` (the command line's options) win. Raises `ConfigError`."""
    env = os.environ if environ is None else environ
    try:
        home = Path(env.get("PILOTHOUSE_HOME") or _default_home(env)).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"PILOTHOUSE_HOME: {error}") from None
    path = Path(env.get("PILOTHOUSE_CONFIG") or home / "pilothouse.toml")
    values: dict[str, Any] = {**_from_file(path, explicit=bool(env.get("PILOTHOUSE_CONFIG"))), **_from_env(env)}
    values.update({k: v for k, v in (overrides or {}).items() if v is not None})
    values["home"] = home
    values.setdefault("runtime", _default_runtime(home, env))
    values["runtime"] = Path(values["runtime"]).absolute()
    values["aws_environment"] = {k: v for k, v in env.items() if k.startswith("AWS_")}
    try:
        values["telemetry"] = telemetry.read(env)
    except telemetry.BadTelemetry as error:
        raise ConfigError(str(error)) from None
    values["inherited"] = {k: v for k, v in env.items() if _INHERITED.match(k) and k != "PILOTHOUSE_API_KEY"}
    config = Config(**values)
    _check(config)
    if make:
        _private_directory(config.home)
        _private_directory(config.runtime)
    return config


def shown(config: Config) -> dict[str, Any]:
    """The configuration for a person's eyes: secrets masked."""
    out: dict[str, Any] = {}
    for f in settings():
        value = getattr(config, f.name)
        if f.metadata["secret"] and value:
            value = "****"
        if f.name == "namespaces":
            value = tuple(one.name for one in value)
        out[f.name] = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    return out


def _default_home(env: Mapping[str, str]) -> str:
    return str(Path(env.get("XDG_DATA_HOME") or "~/.local/share") / "pilothouse")


def _default_runtime(home: Path, env: Mapping[str, str]) -> Path:
    """A short private directory, the same for the same home."""
    if len(os.fsencode(home / "run")) + _RUNTIME_TAIL <= SOCKET_PATH_MAX:
        return home / "run"
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    given = env.get("XDG_RUNTIME_DIR")
    if given and Path(given).is_dir():
        return Path(given) / f"pilothouse-{name}"
    if os.geteuid() == 0:
        return Path("/run") / f"pilothouse-{name}"
    return Path("/tmp") / f"pilothouse-{os.geteuid()}-{name}"  # noqa: S108  made 0700 and checked for its owner


def _from_file(path: Path, *, explicit: bool) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if explicit:
            raise ConfigError(f"PILOTHOUSE_CONFIG: {path} does not exist") from None
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        tree = tomllib.loads(text.decode())
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    known = {f.metadata["key"]: f for f in settings() if f.metadata["key"]}
    tables = {name: tree.pop(name) for name in _TABLES if name in tree}
    status = path.stat()
    if os.geteuid() == 0 and status.st_uid != 0:
        raise ConfigError(f"{path}: root takes no settings from uid {status.st_uid}; run `chown root {path}`")
    open_to = status.st_mode & 0o077
    flat = {
        f"{section}.{name}": v for section, part in tree.items() if isinstance(part, dict) for name, v in part.items()
    }
    stray = [k for k in tree if not isinstance(tree[k], dict)] + [k for k in flat if k not in known]
    if stray:
        raise ConfigError(f"{path}: unknown setting {stray[0]!r}; known are {', '.join(sorted(known))}")
    secret = next((k for k in [*flat, *tables] if known[k].metadata["secret"]), None)
    if secret is not None and open_to:
        raise ConfigError(f"{path}: it holds {secret}, and others may read it; run `chmod 600 {path}`")
    out = {known[key].name: _typed(known[key], value, f"{path}: {key}") for key, value in flat.items()}
    try:
        return out | {name: _TABLES[name](value) for name, value in tables.items()}
    except (issuers.BadIssuer, namespaces.BadNamespace) as error:
        raise ConfigError(f"{path}: {error}") from None


def _from_env(env: Mapping[str, str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for f in settings():
        name = f.metadata["env"]
        if name and env.get(name):
            out[f.name] = _typed(f, env[name], name)
    return out


def _typed(f: dataclasses.Field[Any], value: Any, where: str) -> Any:
    """A value of the field's type from TOML or from the environment's text."""
    kind = str(f.type)
    text = value if isinstance(value, str) else None
    try:
        if kind.startswith("tuple"):
            items = [p.strip() for p in text.split(",") if p.strip()] if text is not None else value
            if not isinstance(items, list) or not all(isinstance(i, str) for i in items):
                raise ValueError("a list of texts")
            return tuple(items)
        if kind.startswith("Path"):
            if text is None:
                raise ValueError("a path")
            return Path(text).expanduser().absolute()
        if kind == "bool":
            if text is not None and text.lower() in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
                return text.lower() in {"1", "true", "yes", "on"}
            if not isinstance(value, bool):
                raise ValueError("true or false")
            return value
        if kind.startswith("Size") and text is not None:
            return sizes.parse(text)
        if kind == "int" or kind.startswith("Size"):
            if isinstance(value, bool | float):
                raise ValueError("a whole number")
            return int(value)
        if kind.startswith("float"):
            if isinstance(value, bool) or not math.isfinite(float(value)):
                raise ValueError("a number")
            return float(value)
        if text is None:
            raise ValueError("a text")
        return text
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        got = "something else" if f.metadata["secret"] else repr(value)
        raise ConfigError(f"{where}: expected {_expected(kind, error)}, got {got}") from None


def _expected(kind: str, error: Exception) -> str:
    if kind == "int":
        return "a whole number"
    if kind.startswith("Size"):
        return "a size such as 512M or 2G"
    return "a number" if kind.startswith("float") else str(error)


def _check(config: Config) -> None:
    for f in settings():
        value, meta = getattr(config, f.name), f.metadata
        name = meta["key"] or meta["env"]
        if meta["choices"] and value not in meta["choices"]:
            raise ConfigError(f"{name}: {value!r} is none of {', '.join(meta['choices'])}")
        if meta["low"] is not None and value is not None and not value >= meta["low"]:
            raise ConfigError(f"{name}: {value} is below {meta['low']}")
        if meta["high"] is not None and value is not None and not value <= meta["high"]:
            raise ConfigError(f"{name}: {value} is above {meta['high']}")
        if isinstance(value, str) and not value.isprintable():
            shown = "it" if meta["secret"] else repr(value)
            raise ConfigError(f"{name}: {shown} has characters that cannot be printed")
    _check_names(config)
    _check_events(config)
    if said := storing.wrong(config):
        raise ConfigError(said)
    if (config.tls_cert is None) != (config.tls_key is None):
        raise ConfigError("server.tls_cert and server.tls_key go together")
    if len(os.fsencode(config.runtime)) + _RUNTIME_TAIL > SOCKET_PATH_MAX:
        raise ConfigError(f"PILOTHOUSE_RUNTIME: {config.runtime} is too long for unix sockets; choose a shorter one")


def _check_names(config: Config) -> None:
    """What would be compared and never match, or match too much, is refused: it would only seem to be set."""
    if not re.match(r"[A-Za-z0-9.:%_-]+\Z", config.host):
        raise ConfigError(f"server.host: {config.host!r} is no address")
    for host in config.hosts:
        if not host.isascii():
            raise ConfigError(f"server.hosts: {host!r}: give it as browsers send it, in ASCII (xn--...)")
        if hosts.plain(host) != host or host in NOBODYS:
            raise ConfigError(
                f"server.hosts: {host!r} is no host name; give it in lower case, without scheme, port and path"
            )
    try:
        forwarded.networks(config.trusted_proxies)
    except ValueError as error:
        raise ConfigError(f"server.trusted_proxies: '{error}' is no address and no network") from None
    if config.base_path and (not _BASE.match(config.base_path) or config.base_path.split("/")[1] in OWN_PATHS):
        raise ConfigError(
            f"server.base_path: {config.base_path!r} is no path for this; expected /WORD, without a slash at its end, "
            f"and not one of {', '.join(sorted(OWN_PATHS))}"
        )
    if not re.match(r"[a-z0-9-]{0,64}\Z", config.sigv4_region):
        raise ConfigError(f"server.sigv4_region: {config.sigv4_region!r} is no region; expected one such as us-east-1")
    for origin in config.cors_origins:
        if not _ORIGIN.match(origin):
            raise ConfigError(
                f"server.cors_origins: {origin!r} is no origin; expected scheme://host[:port], in lower case"
            )
    for scheme in config.git_schemes:
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or scheme in NEVER_SCHEMES:
            raise ConfigError(f"sandbox.git_schemes: {scheme!r} reads this machine or runs programs, or is no scheme")
    try:
        second.patterns(config.second_approver)
    except BadRequest as error:
        raise ConfigError(f"agent.second_approver: {error.message}") from None
    try:
        reach.domains(config.egress_domains, "egress.domains")
        for text in config.egress_allow_private:
            reach.target(text)
    except BadRequest as error:
        raise ConfigError(error.message) from None
    except reach.BadTarget as error:
        raise ConfigError(f"egress.allow_private: {text!r}: {error}") from None
    if config.base_url and not re.match(r"https?://[^/\s@]+(/[^\s@]*)?\Z", config.base_url):
        raise ConfigError("model.base_url: expected http:// or https:// and a host, without credentials")
    if config.sandbox == "host" and (config.behind_proxy or config.trusted_proxies):
        raise ConfigError("sandbox.kind: host isolates nothing and is for this machine alone, not behind a proxy")


def _check_events(config: Config) -> None:
    unknown = next((mode for mode in config.event_modes if mode not in MODES), None)
    if unknown is not None:
        raise ConfigError(f"events.connect_modes: {unknown!r} is none of {', '.join(MODES)}")
    try:
        if config.authorizer:
            namespaces.hook(config.authorizer, "events.authorizer")
        re.compile(config.authorizer_pattern)
        for text in config.hooks_allow_private:
            reach.target(text)
    except namespaces.BadNamespace as error:
        raise ConfigError(str(error)) from None
    except re.error as error:
        raise ConfigError(f"events.authorizer_pattern: {error}") from None
    except reach.BadTarget as error:
        raise ConfigError(f"events.hooks_allow_private: {text!r}: {error}") from None
    if config.notifications_contact and not re.match(r"(mailto:|https://)[!-~]+\Z", config.notifications_contact):
        raise ConfigError("notifications.contact: expected mailto:… or https://…")
    try:
        for text in config.webhooks_allow_private:
            reach.target(text)
    except reach.BadTarget as error:
        raise ConfigError(f"webhooks.allow_private: {text!r}: {error}") from None


def _private_directory(path: Path) -> None:
    """Makes it 0700 and ours, or refuses: a directory that others can write to would give our sockets away."""
    try:
        private(path)
    except (LayoutError, OSError) as error:
        raise ConfigError(f"{path} cannot be used: {getattr(error, 'strerror', None) or error}") from None
