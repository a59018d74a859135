"""A server on fakes behind real sockets: what the doors do, without sandboxes and models."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from pilothouse.adapters.identity.keys import IssuerKeys
from pilothouse.adapters.outgoing.post import Post
from pilothouse.adapters.outgoing.push import WebPush
from pilothouse.adapters.shells.local import LocalShells
from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.core import reach
from pilothouse.core.access import SCOPES, Scope
from pilothouse.core.bucket import Rates
from pilothouse.core.namespaces import USUAL, Namespace
from pilothouse.engine.authorizer import Authorizer, Ways
from pilothouse.engine.bearers import Bearers
from pilothouse.engine.calls import Calls
from pilothouse.engine.channels import Channels
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.dialogs import Dialogs
from pilothouse.engine.gate import Gate
from pilothouse.engine.handlers import Handlers
from pilothouse.engine.identity import Identity
from pilothouse.engine.keypairs import KeyPairs
from pilothouse.engine.kit import Kit, Limits
from pilothouse.engine.log import Log
from pilothouse.engine.opener import Opener
from pilothouse.engine.outgoing import Outgoing, Outside
from pilothouse.engine.ports import Clock, EventStore
from pilothouse.engine.providers import Providers
from pilothouse.engine.repeats import Repeats
from pilothouse.engine.rules import Rules
from pilothouse.engine.secrets import Secrets
from pilothouse.engine.sessions import Sessions
from pilothouse.engine.terminals import Terminals
from pilothouse.engine.traces import Spans, Traces
from pilothouse.web.access import AccessLog
from pilothouse.web.app import HEADERS, application, watch
from pilothouse.web.call import Platform
from pilothouse.web.certificate import Pair
from pilothouse.web.doors import AnyDoor, doors
from pilothouse.web.front import Front
from pilothouse.web.guard import LOOPBACK, Guard, Trust
from pilothouse.web.hub import Hub
from pilothouse.web.listener import TlsServer
from pilothouse.web.plain import PlainDoor, plain_options
from pilothouse.web.quick import Quick
from pilothouse.web.socket import Limits as SocketLimits
from pilothouse.web.switch import hot_options
from tests.engine.fakes import FakeModels, FakeSandboxes, PlainSealer
from tests.engine.folders import FolderFiles, keeping
from tests.issuer import FakeIssuer, Houses


@dataclass
class Served:
    port: int
    platform: Platform
    identity: Identity
    sandboxes: FakeSandboxes
    models: FakeModels
    hub: Hub
    server: uvicorn.Server
    tls: bool = False
    base: str = ""

    @property
    def url(self) -> str:
        return f"http{'s' * self.tls}://127.0.0.1:{self.port}{self.base}"

    @property
    def socket_url(self) -> str:
        return f"ws{'s' * self.tls}://127.0.0.1:{self.port}{self.base}/ws"

    async def key(self, *scopes: Scope) -> str:
        return (await self.identity.keys.create("test", scopes or SCOPES))[1]

    async def cookie(self) -> str:
        ticket, _ = await self.identity.ticket()
        return await self.identity.redeem(ticket)


@contextlib.asynccontextmanager
async def serving(
    *,
    hot: bool = True,
    store: EventStore | None = None,
    trust: Trust | None = None,
    clock: Clock | None = None,
    houses: Sequence[FakeIssuer] = (),
    limits: Limits | None = None,
    gate: Callable[[EventStore, Clock], Gate] | None = None,
    tls: Pair | None = None,
    front: Front | None = None,
    log: AccessLog | None = None,
    bounds: SocketLimits | None = None,
    listening: socket.socket | None = None,
    namespaces: Sequence[Namespace] = USUAL,
    authorizer: Authorizer | None = None,
    ways: Ways | None = None,
    handlers: Handlers | None = None,
    port: int = 0,
    workspaces: Path | None = None,
    private: Sequence[reach.Target] = (),
    spans: Spans | None = None,
) -> AsyncIterator[Served]:
    """`houses` are issuers: of tokens, and where people sign in. Without a `gate` of its own nobody is too fast.
    `listening`: another socket than one on a port that is free. `workspaces`: a folder of folders, whose changes jobs
    collect."""
    store = store or MemoryStore()
    clock, sandboxes, models = clock or SystemClock(), FakeSandboxes(), FakeModels()
    kit = Kit(store, Log(store, clock), sandboxes, models, clock, limits or Limits())
    rules = Rules(store, clock, kit.audit)
    probe = await sandboxes.probe()
    secrets = Secrets(store, clock, kit.audit, PlainSealer())
    home = tempfile.TemporaryDirectory(prefix="ph-artifacts-", ignore_cleanup_errors=True)
    artifacts = await keeping(Path(home.name), kit, PlainSealer())
    if workspaces is not None:
        sandboxes.files = lambda session: FolderFiles(workspaces / session)  # type: ignore[method-assign]
    sessions = Sessions(kit, rules, probe, secrets, artifacts if workspaces is not None else None)
    identity = Identity(store, clock, kit.audit)
    identity.members.on_leave.append(secrets.leave)
    await identity.load()
    if listening is None:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(("127.0.0.1", port))
        listening.listen(512)
    port = listening.getsockname()[1]
    issuers, every = [house.issuer for house in houses], Houses(houses)
    keys = IssuerKeys(every, clock)
    providers = Providers(issuers, every, keys, identity, clock) if houses else None
    pairs = KeyPairs(store, clock, PlainSealer(), identity)
    limited = gate(store, clock) if gate else Gate(store, clock, Rates(0, 1, 0), connections_max=10_000)
    before = front or Front()
    shells = LocalShells()
    opener = Opener(sessions, Terminals(shells, clock), secrets=secrets)
    sandboxes.shells = shells
    url = f"http{'s' * bool(tls)}://127.0.0.1:{port}{before.base}"
    channels = Channels(store, clock, namespaces, handlers)
    await channels.start()
    dialogs = Dialogs(sessions, channels, identity.members.now)
    post = Post(private)
    outgoing = Outgoing.made(sessions, identity, Outside(post, WebPush(), PlainSealer(), lambda: url, private))
    platform = Platform(
        kit, sessions, rules, identity, "0", lambda: url, tls is not None, list,
        providers=providers, pairs=pairs, gate=limited, opener=opener, secrets=secrets, outgoing=outgoing,
        repeats=Repeats(kit, PlainSealer()),
        channels=channels, dialogs=dialogs, artifacts=artifacts, calls=Calls(sessions, limited),
        traces=Traces(kit, spans) if spans is not None else None,
        ways=ways or Ways(issuers=frozenset(i.issuer for i in issuers), authorizer=authorizer),
    )  # fmt: skip
    known = trust or Trust(hosts=LOOPBACK, secure=tls is not None, behind_proxy=before.behind_proxy)
    guard = Guard(identity, lambda: known, pairs=pairs, bearers=Bearers(issuers, keys, clock))
    hub = Hub()
    watch(platform, hub)
    find, bounds = doors(platform, guard, hub), bounds or SocketLimits()
    quick = Quick(platform, guard, before, log, HEADERS)
    options = hot_options(find, bounds, before, log, quick) if hot else plain_options(bounds, quick)
    app = application(platform, guard, None if hot else PlainDoor(AnyDoor(find, before), bounds), before, log)
    config = uvicorn.Config(app, log_config=None, lifespan="off", timeout_graceful_shutdown=1, **options)
    server = TlsServer(config, lambda: tls.context, bounds.handshake_s) if tls else uvicorn.Server(config)
    artifacts.start()
    await sessions.start()
    await opener.start()
    await outgoing.start()
    task = asyncio.create_task(server._serve([listening]))
    while not server.started:
        await asyncio.sleep(0.01)
    try:
        yield Served(port, platform, identity, sandboxes, models, hub, server, tls is not None, before.base)
    finally:
        hub.all_away()
        server.should_exit = True
        await task
        await outgoing.close()
        await post.close()
        await dialogs.close()
        await opener.close()
        await sessions.close()
        await artifacts.close()
        home.cleanup()
        listening.close()
