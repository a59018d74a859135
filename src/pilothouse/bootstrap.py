"""What a server does before it serves, as whoever started it: checks, lock, port, key, and giving up root; and what
its configuration makes of proxies in front, of the certificate, of code of the user's, and of its log."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import functools
import json
import logging
import os
import resource
import socket
import stat
import sys
from pathlib import Path
from typing import Any

import structlog

from pilothouse.adapters.hooks.opening import opened
from pilothouse.adapters.hooks.python import NoCallable
from pilothouse.adapters.sandboxes import client
from pilothouse.adapters.sandboxes.client import Start
from pilothouse.adapters.sandboxes.kept import KEEPER
from pilothouse.adapters.sandboxes.launcher import Launcher
from pilothouse.adapters.sandboxes.layout import Layout, LayoutError
from pilothouse.adapters.sandboxes.owner import Owner, chosen, share
from pilothouse.adapters.sandboxes.privilege import become, own_parts
from pilothouse.config import Config, ConfigError
from pilothouse.core import forwarded
from pilothouse.core.authorizer import Terms
from pilothouse.core.modes import MODES
from pilothouse.core.serving import LOOPBACK_BINDS
from pilothouse.engine.authorizer import Authorizer, Ways
from pilothouse.engine.handlers import Handlers
from pilothouse.engine.hooks import AUTHORIZER_S, Bounded, Hook
from pilothouse.engine.kit import Note
from pilothouse.engine.ports import Clock
from pilothouse.web.certificate import BadPairError, Certificate, Pair
from pilothouse.web.front import Front

BACKLOG = 4096
"""Connections that wait to be accepted, when all come back at once. The kernel takes `net.core.somaxconn` when that is
less; one that finds no room is tried again by the client's kernel after a second."""
FILES_MAX = 1 << 20
"""Open files at most: some hosts allow a thousand million, and what walks through all of them never ends."""


FILES_SPARE = 512
"""Open files that no viewer gets: a server that has none left can open no session, read no workspace, and hangs up on
whoever comes without a word."""


class CannotStartError(Exception):
    """The server cannot start; the message says why and what to do."""


def may_bind(settings: Config) -> None:
    if settings.host in LOOPBACK_BINDS:
        return
    if settings.sandbox == "host":
        raise ConfigError("sandbox.kind: host isolates nothing and is for loopback only; listen on 127.0.0.1")
    if not settings.tls and not settings.behind_proxy:
        raise ConfigError(
            f"server.host: {settings.host} is reachable from other machines; give server.tls_cert and server.tls_key, "
            "or say --behind-proxy when a TLS proxy stands in front"
        )


def open_files() -> None:
    """As many as may be: each connection is one, and the usual 1024 are for programs that cannot count further."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES_MAX if hard == resource.RLIM_INFINITY else min(hard, FILES_MAX)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def connections() -> int:
    """Sockets and streams of everybody, at one time."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return FILES_MAX if files == resource.RLIM_INFINITY else max(files - FILES_SPARE, files // 2)


def tls(settings: Config) -> Certificate | None:
    """Read before root is given up. Raises ConfigError naming the file, before anything is started."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    try:
        return Certificate(settings.tls_cert, settings.tls_key)
    except BadPairError as error:
        raise ConfigError(str(error)) from None


def leave_root(settings: Config, launcher: Launcher | None) -> Start:
    """Becomes the server's own user, if root. How the keeper is started from then on, by `launcher`, if it was forked
    already.

    The sandbox `host` isolates nothing: there a server without root would only promise too much."""
    server = None if settings.keeper == "attach" else _owner(settings)
    if server is None:
        if launcher is not None:
            launcher.close()
        return keeper_start(settings)
    layout = Layout(settings.home, settings.runtime)
    try:
        share(settings.home, settings.runtime, server)
        launcher = launcher or Launcher.fork()
        start = launcher.order(layout, [*KEEPER, "--user", server.word], settings.inherited)
        become(server, (settings.home, settings.runtime, *own_parts()))
    except (LayoutError, OSError) as error:
        raise CannotStartError(f"Cannot give up root: {error}") from None
    return start


def _owner(settings: Config) -> Owner | None:
    """Whom the server is to become. Raises ConfigError."""
    if settings.sandbox == "host":
        return None
    try:
        return chosen(settings.user, settings.home, settings.runtime)
    except LayoutError as error:
        raise ConfigError(str(error)) from None


def keeper_start(settings: Config) -> Start:
    """For a tool that stays who it is: root starts the keeper that the server would have started."""
    if settings.keeper == "attach":
        return client.wait_for_unit
    server = _owner(settings)
    argv = [*KEEPER, "--user", server.word] if server else KEEPER
    return functools.partial(client.start, argv=argv, env=settings.inherited)


def _lock(path: Path) -> Any:
    """Maybe opened by root, where the server's user may have laid anything."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise CannotStartError(f"{path} cannot be used: {error.strerror}") from None
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(fd)
        raise CannotStartError(f"{path} is not a file of the server's; remove it")
    return os.fdopen(fd, "w")


def only_one(settings: Config) -> Any:
    lock = _lock(settings.home / "server.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        running = ""
        with contextlib.suppress(OSError, ValueError, KeyError):
            found = json.loads(settings.server_file.read_text())
            running = f" at {found['url']} (process {found['pid']})"
        raise CannotStartError(f"A server runs on {settings.home} already{running}.") from None
    return lock


def listen(settings: Config) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except (OSError, UnicodeError) as error:
        raise CannotStartError(
            f"Cannot listen on {settings.host} port {settings.port}: {getattr(error, 'strerror', error)}. "
            "Another program may have it: choose another with --port."
        ) from None
    listening.listen(BACKLOG)
    listening.setblocking(False)
    return listening


def front(settings: Config) -> Front:
    return Front(
        settings.base_path,
        forwarded.networks(settings.trusted_proxies),
        "forwarded" if settings.forwarded == "forwarded" else "x-forwarded",
        settings.behind_proxy,
    )


def keep_certificate(settings: Config, certificate: Certificate, note: Any, stack: contextlib.AsyncExitStack) -> None:
    """Warns of what is wrong with it, and follows its changes."""

    def warn() -> None:
        for worry in certificate.worries(settings.names, datetime.datetime.now(datetime.UTC)):
            note.warning("certificate", text=worry)

    def changed(_: Pair) -> None:
        warn()
        say_where(settings, certificate)

    warn()
    if path := certificate.unreadable():
        note.warning(
            "certificate", text=f"{path} was read by root, which is given up: a new one is taken at the next start only"
        )
    certificate.on_change.append(changed)
    certificate.watch(lambda kind, text: note.warning(kind, text=text))
    stack.callback(certificate.close)


def say_where(settings: Config, certificate: Certificate | None) -> None:
    """For this machine's own command line, which knows the server by its certificate and needs no name in it."""
    found = {"url": settings.url, "pid": os.getpid()}
    known = {"fingerprint": certificate.pair.fingerprint} if certificate is not None else {}
    write_private(settings.server_file, json.dumps(found | known))


def write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    temporary.rename(path)


def start_logging(settings: Config) -> None:
    renderer: Any = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s: %(message)s")


def ways(settings: Config, clock: Clock, stack: contextlib.AsyncExitStack, note: Note) -> Ways:
    """How callers of the event API may come. Raises CannotStartError."""
    authorizer = None
    if settings.authorizer:
        terms = Terms(settings.authorizer_ttl_s, settings.authorizer_pattern, settings.authorizer_organisation)
        hook = _hook(settings, "events.authorizer", settings.authorizer, stack)
        authorizer = Authorizer(Bounded(hook, AUTHORIZER_S, note), clock, terms)
    issuers = frozenset(one.issuer for one in settings.issuers if one.bearers)
    connect = frozenset(mode for mode in MODES if mode in (settings.event_modes or MODES))
    return Ways(connect, settings.event_connections, issuers, authorizer)


def handlers(settings: Config, stack: contextlib.AsyncExitStack, note: Note) -> Handlers:
    """Those of the namespaces. Raises CannotStartError."""
    given: dict[str, str] = {}
    for one in settings.namespaces:
        for setting, name in (("on_publish", one.on_publish), ("on_subscribe", one.on_subscribe)):
            if name:
                given.setdefault(name, f"namespaces.{one.name}.{setting}")
    hooks = {name: _hook(settings, setting, name, stack) for name, setting in sorted(given.items())}
    made = Handlers({name: Bounded(hook, note=note) for name, hook in hooks.items()}, note)
    stack.push_async_callback(made.close)
    return made


def _hook(settings: Config, setting: str, name: str, stack: contextlib.AsyncExitStack) -> Hook:
    try:
        made = opened(name, settings.hook_secret, settings.hooks_allow_private)
    except NoCallable as error:
        found = isinstance(error.__cause__, ImportError)
        hint = f"\nThe server's own Python ({sys.executable}) imports it: PYTHONPATH names the folder where it is."
        raise CannotStartError(f"{setting}: {error}{hint if found else ''}") from None
    stack.push_async_callback(made.close)
    return made
