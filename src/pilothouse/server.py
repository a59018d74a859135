"""The server: configuration -> stores -> engine -> doors. Everything is wired here and nowhere else.

It holds no agent, no shell and no model connection, so it may be killed and started again at any time: sandboxes live
under the keeper, calls to the model in the proxy, and what happened is in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import dataclasses
import fcntl
import functools
import json
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import structlog
import uvicorn
import uvloop

from pilothouse import __version__, config
from pilothouse.adapters.proxies.local import LocalProxy
from pilothouse.adapters.sandboxes import client
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.client import Start
from pilothouse.adapters.sandboxes.escape.examine import examine
from pilothouse.adapters.sandboxes.escape.planted import CannotPlant
from pilothouse.adapters.sandboxes.host import Host
from pilothouse.adapters.sandboxes.kept import KEEPER
from pilothouse.adapters.sandboxes.layout import Layout, LayoutError
from pilothouse.adapters.sandboxes.owner import Owner, chosen, share
from pilothouse.adapters.sandboxes.privilege import become, own_parts, starter
from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.config import Config, ConfigError
from pilothouse.core.errors import PilothouseError
from pilothouse.core.ids import SessionId
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.contacts import NetworkIntake
from pilothouse.engine.identity import Identity
from pilothouse.engine.kit import Kit, Limits, Note
from pilothouse.engine.limits import LimitIntake
from pilothouse.engine.log import Log
from pilothouse.engine.ports import Budget, EventStore, ModelState, Put, StoreFailed
from pilothouse.engine.rules import Rules
from pilothouse.engine.sessions import Sessions
from pilothouse.engine.upkeep import Upkeep
from pilothouse.engine.upstream import EgressSettings, ModelSettings
from pilothouse.engine.usage import UsageIntake
from pilothouse.web.app import application
from pilothouse.web.call import Platform
from pilothouse.web.chat import ChatDoor, Hub
from pilothouse.web.guard import LOOPBACK, Guard, Trust
from pilothouse.web.plain import PlainDoor, plain_options
from pilothouse.web.socket import Door
from pilothouse.web.socket import Limits as SocketLimits
from pilothouse.web.switch import hot_options

LOOPBACK_BINDS = {"127.0.0.1", "::1", "localhost"}
DRAIN_S = 5
"""Requests in flight at SIGTERM get this long."""


def main(argv: list[str]) -> int:
    """`pilothouse serve`. Exit status: 0 stopped, 1 could not start, 2 wrong settings."""
    parser = argparse.ArgumentParser(prog="pilothouse serve", description="Start the server and print a sign-in link.")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help=f"port to listen on ({config.PORT}); 0 takes a free one")
    parser.add_argument("--behind-proxy", action="store_true", default=None, help="a TLS proxy stands in front")
    parser.add_argument("--sandbox", choices=("bubblewrap", "host"), help="host isolates nothing")
    options = vars(parser.parse_args(argv))
    try:
        settings = config.load(overrides=options)
        _may_bind(settings)
        tls = _tls(settings)
        lock = _only_one(settings)
        listening = _listen(settings)
        start = _leave_root(settings)
        return uvloop.run(_serve(settings, listening, tls, start, lock))
    except (ConfigError, CannotStartError) as error:
        sys.stderr.write(f"pilothouse: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    except (StoreFailed, PilothouseError) as error:
        sys.stderr.write(f"pilothouse: cannot start: {error}\n")
        return 1


class CannotStartError(Exception):
    """The server cannot start; the message says why and what to do."""


def _may_bind(settings: Config) -> None:
    if settings.host in LOOPBACK_BINDS:
        return
    if settings.sandbox == "host":
        raise ConfigError("sandbox.kind: host isolates nothing and is for loopback only; listen on 127.0.0.1")
    if not settings.tls and not settings.behind_proxy:
        raise ConfigError(
            f"server.host: {settings.host} is reachable from other machines; give server.tls_cert and server.tls_key, "
            "or say --behind-proxy when a TLS proxy stands in front"
        )


def _tls(settings: Config) -> ssl.SSLContext | None:
    """Read before root is given up. Raises ConfigError naming the file, before anything is started."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("ECDHE+AESGCM:ECDHE+CHACHA20")  # of TLS 1.2; the default lets older ones in
    try:
        context.load_cert_chain(settings.tls_cert, settings.tls_key, lambda: b"")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise ConfigError(
            f"server.tls_cert, server.tls_key: {settings.tls_cert} and {settings.tls_key} cannot be used: {reason}"
        ) from None
    return context


def _leave_root(settings: Config) -> Start:
    """Becomes the server's own user, if root. How the keeper is started from then on.

    The sandbox `host` isolates nothing: there a server without root would only promise too much."""
    if settings.keeper == "attach":
        return client.wait_for_unit
    server = _owner(settings)
    if server is None:
        return _keeper_start(settings)
    layout = Layout(settings.home, settings.runtime)
    try:
        share(settings.home, settings.runtime, server)
        start = starter(layout, [*KEEPER, "--user", server.word], settings.inherited)
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


async def _serve(
    settings: Config, listening: socket.socket, tls: ssl.SSLContext | None, start: Start, lock: Any
) -> int:
    _logging(settings)
    note = structlog.get_logger("pilothouse")
    settings = _with_port(settings, listening)
    store = await _store(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        platform, hub, guard = await _platform(settings, store, stack, note, start)
        if settings.host not in LOOPBACK_BINDS and not await platform.identity.keys():
            raise CannotStartError(
                "Nobody could use this server: make a key first with `pilothouse keys create` on 127.0.0.1."
            )
        await _local_key(settings, platform.identity)
        _write_private(settings.server_file, json.dumps({"url": settings.url, "pid": os.getpid()}))
        stack.callback(settings.server_file.unlink, missing_ok=True)
        server = uvicorn.Server(_uvicorn(settings, platform, guard, ChatDoor(platform, guard, hub), tls))
        stack.callback(hub.all_away)
        await _welcome(settings, platform)
        await _until_signal(server, listening, (hub.all_away, platform.streams.all_away))
        note.info("stopping", note="sessions go on under the keeper")
    lock.close()
    return 0


async def _until_signal(server: uvicorn.Server, listening: socket.socket, away: Sequence[Callable[[], None]]) -> None:
    """Serves until SIGTERM or SIGINT; viewers are sent away first, so that they come back to the next server."""
    loop = asyncio.get_running_loop()

    def leave() -> None:
        for send in away:
            send()
        server.should_exit = True

    serving = asyncio.create_task(server._serve([listening]), name="serve")
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, leave)
    await serving


async def _platform(
    settings: Config, store: EventStore, stack: contextlib.AsyncExitStack, note: Any, start: Start
) -> tuple[Platform, Hub, Guard]:
    clock = SystemClock()
    models = LocalProxy(settings.runtime)
    stack.push_async_callback(models.close)
    sandboxes = await _sandboxes(settings, models, start)
    stack.push_async_callback(sandboxes.close)
    probe = await sandboxes.probe()
    await _connect_model(settings, models)
    limits = Limits(
        approval_timeout_s=settings.approval_timeout_s,
        job_timeout_s=settings.job_timeout_s,
        idle_s=settings.idle_s,
        spares=settings.spares,
        sessions_max=settings.sessions_max,
        job_max_cost_usd=settings.job_max_cost_usd,
        session_max_cost_usd=settings.session_max_cost_usd,
        permission_mode=settings.permission_mode,
        agent=settings.agent,
        caps=settings.caps,
        fold_after_s=settings.fold_after_s,
        retention_events=settings.retention_events,
        egress=settings.reach,
    )
    log = Log(store, clock)
    kit = Kit(store, log, sandboxes, models, clock, limits, note=_noter(note), serial=await _serial(store))
    rules = Rules(store, clock)
    sessions = Sessions(kit, rules, probe)
    identity = Identity(store, clock)
    trust = Trust(
        hosts=frozenset(
            {*LOOPBACK, f"[{settings.host}]" if ":" in settings.host else settings.host.lower(), *settings.hosts}
        ),
        cors_origins=frozenset(settings.cors_origins),
        secure=settings.tls,
        behind_proxy=settings.behind_proxy,
    )
    guard = Guard(identity, lambda: trust)
    platform = Platform(
        kit,
        sessions,
        rules,
        identity,
        __version__,
        lambda: settings.url,
        settings.tls or settings.behind_proxy,
        lambda: _not_ready(sessions),
    )
    hub = Hub()
    identity.on_revoke += [hub.revoked, platform.streams.revoked]
    await sessions.start()
    stack.push_async_callback(sessions.close)
    for chore in (UsageIntake(kit, sessions), NetworkIntake(kit, sessions), Upkeep(kit), LimitIntake(kit, sessions)):
        chore.start()
        stack.push_async_callback(chore.close)
    if not probe.usable:
        note.error("no_isolation", summary=probe.summary)
    if probe.usable and probe.isolation == "none":
        note.warning("isolation_none", text="Sessions are NOT isolated: agents run with your own rights.")
    if probe.usable and probe.isolation == "reduced":
        note.warning("isolation_reduced", text=probe.summary)
    return platform, hub, guard


def _not_ready(sessions: Sessions) -> list[str]:
    reasons = [] if sessions.probe.usable else ["no session can be isolated on this host"]
    if sessions.stuck or sessions.kit.log.failing:
        reasons.append("the store cannot write")
    return reasons


async def _sandboxes(settings: Config, models: LocalProxy, start: Start) -> Bubblewrap | Host:
    async def admit(session: SessionId) -> None:
        await models.admit(session, None, Budget())

    kind = Host if settings.sandbox == "host" else Bubblewrap
    made = await kind.connect_keeper(
        settings.home,
        settings.runtime,
        git_schemes=settings.git_schemes,
        admit=admit,
        start=start,
        caps=settings.caps,
        image=settings.limits_image,
    )
    if isinstance(made, Bubblewrap):
        made.allow_reduced = settings.allow_reduced
    return made


async def _connect_model(settings: Config, models: LocalProxy) -> ModelState:
    """Tells the proxy where the model is. It keeps the credential in memory only."""
    model = ModelSettings(
        provider=settings.provider,
        model=settings.model,
        base_url=settings.base_url,
        api_key=settings.api_key,
        auth_token=settings.auth_token,
        aws_region=settings.aws_region,
        aws_profile=settings.aws_profile,
        aws_environment=dict(settings.aws_environment),
    )
    return await models.configure(model, EgressSettings(settings.egress_allow_private))


async def _store(settings: Config) -> EventStore:
    if settings.durability == "memory":
        return MemoryStore()
    return await SqliteStore.open(settings.database, full=settings.durability == "full")


async def _serial(store: EventStore) -> int:
    """How often a server has started on this store."""
    doc = await store.get("counter", "starts")
    count = int(doc or b"0") + 1
    await store.commit(Put("counter", "starts", str(count).encode()))
    return count


async def _local_key(settings: Config, identity: Identity) -> None:
    """The key of this machine's own command line, in a file that only its user reads."""
    path = settings.local_key_file
    with contextlib.suppress(OSError, ValueError, PilothouseError):
        await identity.by_key(path.read_text().strip())
        path.chmod(0o600)
        return
    _, text = await identity.create("this machine", ("read", "run", "approve", "admin"))
    _write_private(path, text + "\n")


def _write_private(path: Path, text: str) -> None:
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "w") as file:
        file.write(text)
    temporary.rename(path)


def _uvicorn(
    settings: Config, platform: Platform, guard: Guard, door: ChatDoor, tls: ssl.SSLContext | None
) -> uvicorn.Config:
    limits = SocketLimits()
    app = application(platform, guard, None if settings.hot_sockets else PlainDoor(door, limits))
    doors: dict[str, Door] = {"/ws": door}
    options = hot_options(doors.get, limits) if settings.hot_sockets else plain_options(limits)
    made = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="off",
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=30,
        proxy_headers=False,
        **options,
    )
    made.load()
    made.ssl = tls  # its own loading would read the key again, which only root may
    return made


async def _welcome(settings: Config, platform: Platform) -> None:
    """What a person who started it reads."""
    ticket, _ = await platform.identity.ticket()
    model = await platform.kit.models.state()
    lines = [
        "",
        f"  Pilothouse {__version__}   {settings.url}",
        "",
        f"  Sign in (once, within 10 minutes):  {settings.url}/#ticket={ticket}",
        "  Another link:                       pilothouse ticket",
        "",
        f"  Isolation: {platform.sessions.probe.summary}",
        "  Model:     " + (f"{model.provider}, {model.model}" if not model.demo else DEMO_LINE),
        "",
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()


DEMO_LINE = (
    "DEMO - no model key was found, so a scripted stand-in answers. `pilothouse doctor` says how to connect one."
)


def _only_one(settings: Config) -> Any:
    lock = (settings.home / "server.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        running = ""
        with contextlib.suppress(OSError, ValueError, KeyError):
            found = json.loads(settings.server_file.read_text())
            running = f" at {found['url']} (process {found['pid']})"
        raise CannotStartError(f"A server runs on {settings.home} already{running}.") from None
    return lock


def _listen(settings: Config) -> socket.socket:
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
    listening.listen(1024)
    listening.setblocking(False)
    return listening


def _with_port(settings: Config, listening: socket.socket) -> Config:
    return dataclasses.replace(settings, port=int(listening.getsockname()[1]))


def _logging(settings: Config) -> None:
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


def _noter(logger: Any) -> Note:
    def note(what: str, /, **fields: object) -> None:
        with contextlib.suppress(OSError):  # a log on a full disk must not end what is being noted
            logger.info(what, **fields)

    return note


# --- tools beside the server ---


def print_config(argv: list[str]) -> int:
    """`pilothouse config`: every setting as it is in force, secrets masked."""
    parser = argparse.ArgumentParser(prog="pilothouse config", description="Print the configuration in force.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        found = config.shown(config.load(make=False))
    except ConfigError as error:
        sys.stderr.write(f"pilothouse: {error}\n")
        return 2
    if options.json:
        return _print([json.dumps(found, indent=2)])
    keys = {f.name: f.metadata["key"] or f.metadata["env"] for f in config.settings()}
    width = max(map(len, keys.values()))
    lines = []
    for name, value in found.items():
        shown = ", ".join(value) if isinstance(value, list) else "" if value is None else value
        lines.append(f"{keys[name]:{width}}  {shown}")
    return _print(lines)


def _print(lines: list[str]) -> int:
    try:
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  so that the interpreter's own flush is quiet
    return 0


def doctor(argv: list[str]) -> int:
    """`pilothouse doctor`: what isolation and which model this machine gives. 0 when sessions can run."""
    parser = argparse.ArgumentParser(prog="pilothouse doctor", description="Say what this machine gives.")
    parser.add_argument("--escape", action="store_true", help="attack a real session from inside and say what held")
    options = parser.parse_args(argv)
    try:
        settings = config.load()
    except ConfigError as error:
        sys.stderr.write(f"pilothouse: {error}\n")
        return 2
    return asyncio.run(_escape(settings) if options.escape else _doctor(settings))


async def _escape(settings: Config) -> int:
    """0 when nothing failed but what may in this profile."""
    models = LocalProxy(settings.runtime)
    sandboxes = await _sandboxes(settings, models, _keeper_start(settings))
    try:
        if not isinstance(sandboxes, Bubblewrap):
            sys.stderr.write("pilothouse: the sandbox is `host`: there is nothing to escape from\n")
            return 1
        probe = await sandboxes.probe()
        sys.stdout.write(f"Isolation: {probe.isolation}. {probe.summary}\n")
        report = await examine(sandboxes, settings.home, settings.runtime, isolation=probe.isolation)
    except (PilothouseError, CannotPlant, OSError) as error:
        sys.stderr.write(f"pilothouse: the escape suite could not run: {error}\n")
        return 1
    finally:
        await models.close()
        await sandboxes.close()
    _print(report.lines())
    return 1 if report.unexpected else 0


def _keeper_start(settings: Config) -> Start:
    """For a tool that stays who it is: root starts the keeper that the server would have started."""
    if settings.keeper == "attach":
        return client.wait_for_unit
    server = _owner(settings)
    argv = [*KEEPER, "--user", server.word] if server else KEEPER
    return functools.partial(client.start, argv=argv, env=settings.inherited)


async def _doctor(settings: Config) -> int:
    models = LocalProxy(settings.runtime)
    sandboxes = await _sandboxes(settings, models, _keeper_start(settings))
    try:
        probe = await sandboxes.probe()
        sys.stdout.write(f"Isolation: {probe.isolation}. {probe.summary}\n")
        for finding in probe.findings:
            sys.stdout.write(f"  - {finding}\n")
        model = await _connect_model(settings, models)
        if model.demo:
            sys.stdout.write(f"Model: {DEMO_HELP}\n")
        else:
            ready = "ready" if model.ready else f"not ready: {model.detail}"
            sys.stdout.write(f"Model: {model.provider}, {model.model}, {ready}\n")
    finally:
        await models.close()
        await sandboxes.close()
    return 0 if probe.usable else 1


DEMO_HELP = """DEMO, a scripted stand-in, since no credential was found. To connect a real one, set and restart:
  - ANTHROPIC_API_KEY=...                          (Anthropic)
  - ANTHROPIC_AUTH_TOKEN=... ANTHROPIC_BASE_URL=...  (a compatible endpoint)
  - PILOTHOUSE_MODEL_PROVIDER=bedrock AWS_REGION=...  (Amazon Bedrock, the usual AWS credential chain)"""
