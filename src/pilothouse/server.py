"""The server: configuration -> stores -> engine -> doors. Everything is wired here and nowhere else.

It holds no agent, no shell and no model connection, so it may be killed and started again at any time: sandboxes live
under the keeper, calls to the model in the proxy, and what happened is in the log.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import gc
import socket
import sys
from typing import Any

import structlog
import uvicorn
import uvloop

from pilothouse import __version__, config
from pilothouse.adapters.identity.documents import Documents
from pilothouse.adapters.identity.keys import IssuerKeys
from pilothouse.adapters.identity.oidc import Oidc
from pilothouse.adapters.identity.sealing import KeyFile, KeyFileError
from pilothouse.adapters.outgoing.post import Post
from pilothouse.adapters.outgoing.push import WebPush
from pilothouse.adapters.proxies.local import LocalProxy
from pilothouse.adapters.sandboxes.client import Start
from pilothouse.adapters.sandboxes.launcher import Launcher
from pilothouse.adapters.shells.held import HeldShells
from pilothouse.adapters.vitals import vitals
from pilothouse.bootstrap import (
    BACKLOG,
    CannotStartError,
    connections,
    front,
    handlers,
    keep_certificate,
    leave_root,
    listen,
    may_bind,
    only_one,
    open_files,
    say_where,
    start_logging,
    tls,
    ways,
    write_private,
)
from pilothouse.config import Config, ConfigError
from pilothouse.core.bucket import Rates
from pilothouse.core.errors import PilothouseError
from pilothouse.core.namespaces import USUAL
from pilothouse.core.serving import LOOPBACK_BINDS, PORT
from pilothouse.engine import gauges
from pilothouse.engine.bearers import Bearers
from pilothouse.engine.calls import Calls
from pilothouse.engine.channels import Channels
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.contacts import NetworkIntake
from pilothouse.engine.dialogs import Dialogs
from pilothouse.engine.gate import Gate
from pilothouse.engine.identity import Identity
from pilothouse.engine.keeping import AuditUpkeep
from pilothouse.engine.keypairs import KeyPairs
from pilothouse.engine.kit import Kit, Limits, Note
from pilothouse.engine.limits import LimitIntake
from pilothouse.engine.log import Log
from pilothouse.engine.metrics import Lag, Metrics
from pilothouse.engine.opener import Opener
from pilothouse.engine.outgoing import Outgoing, Outside
from pilothouse.engine.ports import EventStore, Put, StoreFailed
from pilothouse.engine.providers import Providers
from pilothouse.engine.repeats import Repeats
from pilothouse.engine.rules import Rules
from pilothouse.engine.secrets import Secrets
from pilothouse.engine.sessions import Sessions
from pilothouse.engine.tap import Tap
from pilothouse.engine.terminals import TerminalLimits, Terminals
from pilothouse.engine.timed import TimedStore
from pilothouse.engine.upkeep import Upkeep
from pilothouse.engine.usage import UsageIntake
from pilothouse.outside import connect_model, open_artifacts, open_sandboxes, open_store, open_traces
from pilothouse.web.access import AccessLog
from pilothouse.web.app import HEADERS, application, watch
from pilothouse.web.call import Platform
from pilothouse.web.certificate import Certificate
from pilothouse.web.departure import until_signal
from pilothouse.web.doors import AnyDoor, doors
from pilothouse.web.guard import Guard, Trust
from pilothouse.web.hub import Hub
from pilothouse.web.listener import TlsServer
from pilothouse.web.plain import PlainDoor, plain_options
from pilothouse.web.quick import Quick
from pilothouse.web.socket import Limits as SocketLimits
from pilothouse.web.switch import hot_options

DRAIN_S = 5
"""Requests in flight at SIGTERM get this long."""


def main(argv: list[str], launcher: Launcher | None = None) -> int:
    """`pilothouse serve`. `launcher`: what stays root. Exit status: 0 stopped, 1 could not start, 2 wrong settings."""
    parser = argparse.ArgumentParser(prog="pilothouse serve", description="Start the server and print a sign-in link.")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help=f"port to listen on ({PORT}); 0 takes a free one")
    parser.add_argument("--behind-proxy", action="store_true", default=None, help="a TLS proxy stands in front")
    parser.add_argument("--sandbox", choices=("bubblewrap", "host"), help="host isolates nothing")
    options = vars(parser.parse_args(argv))
    try:
        settings = config.load(overrides=options)
        may_bind(settings)
        certificate = tls(settings)
        open_files()
        lock = only_one(settings)
        listening = listen(settings)
        start = leave_root(settings, launcher)
        return uvloop.run(_serve(settings, listening, certificate, start, lock))
    except (ConfigError, CannotStartError) as error:
        sys.stderr.write(f"pilothouse: {error}\n")
        return 2 if isinstance(error, ConfigError) else 1
    except (StoreFailed, PilothouseError, KeyFileError) as error:
        sys.stderr.write(f"pilothouse: cannot start: {error}\n")
        return 1


async def _serve(
    settings: Config, listening: socket.socket, certificate: Certificate | None, start: Start, lock: Any
) -> int:
    start_logging(settings)
    note = structlog.get_logger("pilothouse")
    settings = _with_port(settings, listening)
    store = await open_store(settings)
    async with contextlib.AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        metrics = Metrics()
        platform, hub, guard = await _platform(settings, TimedStore(store, metrics), stack, note, start, metrics)
        if settings.host not in LOOPBACK_BINDS and not await platform.identity.keys.all():
            raise CannotStartError(
                "Nobody could use this server: make a key first with `pilothouse keys create` on 127.0.0.1."
            )
        await _local_key(settings, platform.identity)
        if certificate is not None:
            keep_certificate(settings, certificate, note, stack)
        say_where(settings, certificate)
        stack.callback(settings.server_file.unlink, missing_ok=True)
        server = _uvicorn(settings, platform, guard, hub, certificate)
        await _welcome(settings, platform)
        gc.collect()
        gc.freeze()  # modules and what was made for good: a collection need not look at them each time
        await until_signal(server, listening, hub, platform.streams)
        note.info("stopping", note="sessions go on under the keeper")
    lock.close()
    return 0


async def _platform(
    settings: Config,
    store: EventStore,
    stack: contextlib.AsyncExitStack,
    note: Any,
    start: Start,
    metrics: Metrics,
) -> tuple[Platform, Hub, Guard]:
    clock = SystemClock()
    sealer = KeyFile(settings.sealing_key_file)  # refused before anything is started
    models = LocalProxy(settings.runtime)
    stack.push_async_callback(models.close)
    sandboxes = await open_sandboxes(settings, models, start)
    stack.push_async_callback(sandboxes.close)
    probe = await sandboxes.probe()
    await connect_model(settings, models)
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
        second_approver=settings.second_approvals,
    )
    log = Log(store, clock)
    kit = Kit(store, log, sandboxes, models, clock, limits, note=_noter(note), serial=await _serial(store))
    rules = Rules(store, clock, kit.audit)
    secrets = Secrets(store, clock, kit.audit, sealer)
    artifacts = await open_artifacts(settings, kit, sealer)
    stack.push_async_callback(artifacts.close)
    sessions = Sessions(kit, rules, probe, secrets, artifacts)
    identity = Identity(store, clock, kit.audit)
    identity.members.on_leave.append(secrets.leave)
    await identity.load()
    rates = Rates(settings.rate_per_s, settings.rate_burst, settings.quota_per_day)
    gate = Gate(store, clock, rates, settings.connections_max, connections())
    await gate.start()
    stack.push_async_callback(gate.close)
    trust = Trust(
        hosts=settings.names,
        cors_origins=frozenset(settings.cors_origins),
        secure=settings.tls,
        behind_proxy=settings.behind_proxy,
    )
    pairs = KeyPairs(store, clock, sealer, identity, settings.sigv4_region)
    documents = Documents()
    stack.push_async_callback(documents.close)
    keys = IssuerKeys(documents, clock, kit.note)
    stack.push_async_callback(keys.close)
    oidc = Oidc(documents, keys, kit.note)
    guard = Guard(identity, lambda: trust, pairs=pairs, bearers=Bearers(settings.issuers, keys, clock))
    times = TerminalLimits(idle_s=settings.shell_idle_s, life_s=settings.shell_life_s)
    terminals = Terminals(HeldShells(sandboxes.shells, lend=probe.isolation == "namespaces"), clock, times)
    opener = Opener(sessions, terminals, settings.shell_scrollback, secrets=secrets)
    channels = Channels(store, clock, settings.namespaces or USUAL, handlers(settings, stack, kit.note))
    await channels.start()
    dialogs = Dialogs(sessions, channels, identity.members.now)
    stack.push_async_callback(dialogs.close)
    traces = await open_traces(settings, kit, stack)
    post = Post(settings.webhook_targets)
    stack.push_async_callback(post.close)
    outside = Outside(
        post, WebPush(), sealer, lambda: settings.page, settings.webhook_targets, settings.notifications_contact
    )
    outgoing = Outgoing.made(sessions, identity, outside)
    platform = Platform(
        kit,
        sessions,
        rules,
        identity,
        __version__,
        lambda: settings.page,
        settings.tls or settings.behind_proxy,
        lambda: _not_ready(sessions),
        pairs=pairs,
        providers=Providers(settings.issuers, oidc, keys, identity, clock),
        gate=gate,
        secrets=secrets,
        repeats=Repeats(kit, sealer),
        artifacts=artifacts,
        outgoing=outgoing,
        opener=opener,
        channels=channels,
        dialogs=dialogs,
        calls=Calls(sessions, gate),
        ways=ways(settings, clock, stack, kit.note),
        metrics=metrics,
        traces=traces,
    )
    _measure(platform, stack)
    hub = Hub()
    watch(platform, hub)
    artifacts.start()
    await sessions.start()
    stack.push_async_callback(sessions.close)
    await opener.start()
    stack.push_async_callback(opener.close)
    await outgoing.start()
    stack.push_async_callback(outgoing.close)
    upkeep = Upkeep(kit, channels.upkeep, platform.repeats.sweep), AuditUpkeep(kit, settings.audit_days)
    intakes = UsageIntake(kit, sessions, metrics, traces), NetworkIntake(kit, sessions), LimitIntake(kit, sessions)
    for chore in (*intakes, *upkeep):
        chore.start()
        stack.push_async_callback(chore.close)
    if not probe.usable:
        note.error("no_isolation", summary=probe.summary)
    if probe.usable and probe.isolation == "none":
        note.warning("isolation_none", text="Sessions are NOT isolated: agents run with your own rights.")
    if probe.usable and probe.isolation == "reduced":
        note.warning("isolation_reduced", text=probe.summary)
    return platform, hub, guard


def _measure(platform: Platform, stack: contextlib.AsyncExitStack) -> None:
    """What the server counts of itself."""
    metrics, sessions = platform.metrics, platform.sessions
    metrics.sources.append(lambda: gauges.of_process(vitals()))
    tap = Tap(metrics, platform.kit.clock, sessions.agent_of)
    platform.kit.log.on_rows.append(tap.rows)
    lag = Lag(metrics.lag)
    lag.start()
    stack.callback(lag.close)


def _not_ready(sessions: Sessions) -> list[str]:
    reasons = [] if sessions.probe.usable else ["no session can be isolated on this host"]
    if sessions.stuck or sessions.kit.log.failing:
        reasons.append("the store cannot write")
    return reasons


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
        await identity.keys.by_secret(path.read_text().strip())
        path.chmod(0o600)
        return
    free = Rates(per_s=0, per_day=0)  # whoever reads the file may read the store as well
    _, text = await identity.keys.create("this machine", ("read", "run", "approve", "admin"), rates=free)
    write_private(path, text + "\n")


def _uvicorn(
    settings: Config, platform: Platform, guard: Guard, hub: Hub, certificate: Certificate | None
) -> uvicorn.Server:
    limits, before = SocketLimits(), front(settings)
    log = AccessLog(structlog.get_logger("pilothouse").bind()) if settings.logs_access else None
    find = doors(platform, guard, hub)
    plain = None if settings.hot_sockets else PlainDoor(AnyDoor(find, before), limits)
    app = application(platform, guard, plain, before, log)
    quick = Quick(platform, guard, before, log, HEADERS)
    options = hot_options(find, limits, before, log, quick) if settings.hot_sockets else plain_options(limits, quick)
    made = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="off",
        backlog=BACKLOG,
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=30,
        **options,
    )
    if certificate is None:
        return uvicorn.Server(made)
    return TlsServer(made, lambda: certificate.pair.context)


async def _welcome(settings: Config, platform: Platform) -> None:
    """What a person who started it reads."""
    ticket, _ = await platform.identity.ticket()
    model = await platform.kit.models.state()
    lines = [
        "",
        f"  Pilothouse {__version__}   {settings.page}",
        "",
        f"  Sign in (once, within 10 minutes):  {settings.page}/#ticket={ticket}",
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


def _with_port(settings: Config, listening: socket.socket) -> Config:
    return dataclasses.replace(settings, port=int(listening.getsockname()[1]))


def _noter(logger: Any) -> Note:
    def note(what: str, /, **fields: object) -> None:
        with contextlib.suppress(OSError):  # a log on a full disk must not end what is being noted
            (logger.warning if what.endswith("_failed") else logger.info)(what, **fields)

    return note
