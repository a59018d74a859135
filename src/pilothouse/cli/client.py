"""The public client (`pilothouse.client`) as commands use it: a method for each thing that one does, and what goes
wrong in words for a person. The live side is `viewer`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

import aiohttp
import msgspec

from pilothouse import client as api
from pilothouse.cli import wire
from pilothouse.cli.errors import Failure, NoServer, Refused
from pilothouse.client import transport
from pilothouse.client.transport import CONNECT_S, CUT, PAGE, Endpoint, Find
from pilothouse.core.api.access import NewKey
from pilothouse.core.api.outgoing import NotifierChange, WebhookChange
from pilothouse.core.api.sessions import Wish

__all__ = ["CONNECT_S", "CUT", "KEY_HELP", "PAGE", "Client", "Endpoint", "Find", "refused", "unreachable"]
T = TypeVar("T")

KEY_HELP = (
    "Set PILOTHOUSE_API_KEY to a key of that server; on its own machine "
    "`pilothouse keys create --plain` prints a new one."
)


class Client:
    """Use as a context manager. `find` is asked again whenever the connection was lost."""

    def __init__(self, find: Find) -> None:
        self.api = api.Client(find=find)

    async def __aenter__(self) -> Client:
        await self.api.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.api.__aexit__(kind, error, trace)

    # --- what sockets need -------------------------------------------------------------------------------------

    @property
    def http(self) -> aiohttp.ClientSession:
        return self.api.transport.http

    @property
    def endpoint(self) -> Endpoint:
        return self.api.transport.endpoint

    @endpoint.setter
    def endpoint(self, endpoint: Endpoint) -> None:
        self.api.transport.endpoint = endpoint

    @property
    def headers(self) -> dict[str, str]:
        return self.api.transport.headers

    async def find_again(self) -> None:
        await self.api.transport.find_again()

    # --- sessions and jobs -------------------------------------------------------------------------------------

    async def make_session(
        self, *, source: dict[str, str] | None = None, egress: dict[str, Any] | None = None, **fields: Any
    ) -> wire.Session:
        git, directory = (source or {}).get("git"), (source or {}).get("dir")
        wish = msgspec.convert(egress, Wish) if egress is not None else None
        return await _told(self.api.sessions.make(git=git, directory=directory, egress=wish, **_snake(fields)))

    async def session(self, id: str) -> wire.Session:
        return await _told(self.api.sessions.get(id))

    async def sessions(self) -> list[wire.Session]:
        return await _told(self.api.sessions.all())

    async def limits(self, id: str) -> list[wire.Limit]:
        return await _told(self.api.sessions.limits(id))

    async def stop(self, id: str) -> None:
        await _told(self.api.sessions.stop(id))

    async def submit(self, session: str, prompt: str, **fields: Any) -> wire.Job:
        return await _told(self.api.jobs.submit(session, prompt, **_snake(fields)))

    async def jobs(self, session: str) -> list[wire.Job]:
        return await _told(self.api.jobs.all(session))

    async def job(self, id: str) -> wire.Job:
        return await _told(self.api.jobs.get(id))

    async def interrupt(self, job: str) -> None:
        await _told(self.api.jobs.interrupt(job))

    # --- approvals and questions -------------------------------------------------------------------------------

    async def approval(self, id: str) -> wire.Approval:
        return await _told(self.api.approvals.get(id))

    async def approvals(self) -> list[wire.Approval]:
        return await _told(self.api.approvals.all())

    async def decide(
        self,
        approval: wire.Approval,
        approved: bool,
        *,
        optionId: str | None = None,  # noqa: N803  as the wire has it
        message: str | None = None,
        updatedInput: dict[str, Any] | None = None,  # noqa: N803
    ) -> wire.Approval:
        """The hash binds the answer to the input that the person saw."""
        decided = self.api.approvals.decide(
            approval, approved, option=optionId, message=message, updated_input=updatedInput
        )
        return await _told(decided)

    async def questions(self) -> list[wire.Waiting]:
        return await _told(self.api.questions.all())

    async def answer(self, id: str, answers: dict[str, str]) -> None:
        await _told(self.api.questions.answer(id, answers))

    # --- files and shells --------------------------------------------------------------------------------------

    async def files(self, session: str, path: str) -> wire.Listing:
        return await _told(self.api.files.listing(session, path))

    async def artifacts(self, job: str) -> list[wire.JobArtifact]:
        return await _told(self.api.artifacts.of_job(job))

    @asynccontextmanager
    async def download(self, path: str, params: dict[str, str]) -> AsyncIterator[AsyncIterator[bytes]]:
        """The body in chunks."""
        try:
            async with self.api.transport.download(path, params) as chunks:
                yield chunks
        except api.ClientError as error:
            raise _words(error) from None

    async def shells(self, session: str) -> list[wire.Shell]:
        return await _told(self.api.shells.all(session))

    async def open_shell(self, session: str, *, shellId: str | None = None, **fields: Any) -> wire.Shell:  # noqa: N803
        given = {name: value for name, value in fields.items() if value is not None}
        return await _told(self.api.shells.open(session, id=shellId, **given))

    async def end_shell(self, session: str, shell: str) -> None:
        await _told(self.api.shells.end(session, shell))

    # --- secrets and network -----------------------------------------------------------------------------------

    async def secrets(self, session: str | None) -> list[wire.Secret]:
        return await _told(self.api.secrets.all(session))

    async def set_secret(
        self, name: str, value: str, *, use: str, file: bool, session: str | None, source: dict[str, str]
    ) -> wire.Secret:
        git, directory = source.get("git"), source.get("dir")
        made = self.api.secrets.set(name, value, use=use, file=file, session=session, git=git, directory=directory)
        return await _told(made)

    async def remove_secret(self, name: str, *, session: str | None, source: dict[str, str]) -> None:
        git, directory = source.get("git"), source.get("dir")
        await _told(self.api.secrets.remove(name, session=session, git=git, directory=directory))

    async def network(self, session: str) -> wire.Network:
        return await _told(self.api.sessions.network(session))

    async def change_egress(self, session: str, wish: dict[str, Any]) -> wire.Network:
        return await _told(self.api.sessions.set_egress(session, msgspec.convert(wish, Wish)))

    async def follow_network(self, session: str) -> AsyncGenerator[wire.Network, None]:
        """All, then what changes; ends when the server goes. Raises NoServer, Refused."""
        try:
            async with aclosing(self.api.sessions.watch_network(session)) as views:
                async for view in views:
                    yield view
        except api.ClientError as error:
            raise _words(error) from None

    # --- the event API -----------------------------------------------------------------------------------------

    async def publish(self, channel: str, events: list[str]) -> wire.Published:
        return await _told(self.api.channels.publish(channel, events))

    # --- access ------------------------------------------------------------------------------------------------

    async def ticket(self, account: str | None = None, organisation: str | None = None) -> wire.Ticket:
        return await _told(self.api.keys.ticket(account, organisation))

    async def make_key(self, wish: dict[str, Any], organisation: str | None) -> wire.MadeKey:
        given = {name: value for name, value in wish.items() if value is not None}
        return await _told(self.api.keys.make(msgspec.convert(given, NewKey), organisation=organisation))

    async def keys(self) -> list[wire.Key]:
        return await _told(self.api.keys.all())

    async def revoke_key(self, id: str) -> None:
        await _told(self.api.keys.revoke(id))

    async def members(self, organisation: str | None) -> list[wire.Member]:
        return await _told(self.api.members.all(organisation))

    async def set_member(
        self, account: str, organisation: str | None, role: str | None, name: str | None, disabled: bool | None
    ) -> wire.Member:
        return await _told(
            self.api.members.set(account, role=role, name=name, disabled=disabled, organisation=organisation)
        )

    async def remove_member(self, account: str, organisation: str | None) -> None:
        await _told(self.api.members.remove(account, organisation))

    async def organisations(self) -> list[wire.Organisation]:
        return await _told(self.api.organisations.all())

    async def make_organisation(self, id: str, name: str | None) -> wire.Organisation:
        return await _told(self.api.organisations.make(id, name))

    async def audit(self, after: int, organisation: str | None = None) -> list[bytes]:
        """Up to 200 records with a higher number, as they were sealed."""
        return await _told(self.api.audit.after(after, organisation))

    async def audit_head(self, organisation: str | None = None) -> wire.AuditHead:
        return await _told(self.api.audit.head(organisation))

    # --- usage, webhooks and notifications ---------------------------------------------------------------------

    async def usage(self, asked: dict[str, str | None]) -> wire.Usage:
        return await _told(self.api.ask(wire.Usage, "GET", "/api/usage", params=transport.given(**asked)))

    async def usage_as(self, asked: dict[str, str | None], path: str) -> bytes:
        return await _told(self.api.transport.send("GET", path, params=transport.given(**asked)))

    async def webhooks(self) -> list[wire.Webhook]:
        return await _told(self.api.webhooks.all())

    async def make_webhook(self, wish: dict[str, Any]) -> wire.MadeWebhook:
        return await _told(self.api.webhooks.make(wish["url"], name=wish["name"], events=wish["events"]))

    async def change_webhook(self, id: str, wish: dict[str, Any]) -> wire.Webhook:
        return await _told(self.api.webhooks.change(id, WebhookChange(**wish)))

    async def remove_webhook(self, id: str) -> None:
        await _told(self.api.webhooks.remove(id))

    async def rotate_webhook(self, id: str, grace_s: float | None) -> wire.MadeWebhook:
        return await _told(self.api.webhooks.rotate(id, grace_s))

    async def ping_webhook(self, id: str) -> wire.Delivery:
        return await _told(self.api.webhooks.ping(id))

    async def deliveries(self, id: str, state: str) -> list[wire.Delivery]:
        return await _told(self.api.webhooks.deliveries(id, state))

    async def replay(self, id: str, delivery: str) -> None:
        await _told(self.api.webhooks.replay(id, delivery))

    async def replay_dead(self, id: str) -> int:
        return await _told(self.api.webhooks.replay_dead(id))

    async def notifiers(self) -> list[wire.Notifier]:
        return await _told(self.api.notifications.all())

    async def notify_slack(
        self, url: str, *, name: str | None, events: list[str] | None, sessions: str | None
    ) -> wire.Notifier:
        return await _told(self.api.notifications.slack(url, name=name, events=events, sessions=sessions))

    async def change_notifier(self, id: str, wish: NotifierChange) -> wire.Notifier:
        return await _told(self.api.notifications.change(id, wish))

    async def test_notifier(self, id: str) -> wire.Delivery:
        return await _told(self.api.notifications.test(id))

    async def notified(self, id: str, state: str) -> list[wire.Delivery]:
        return await _told(self.api.notifications.deliveries(id, state))

    async def remove_notifier(self, id: str) -> None:
        await _told(self.api.notifications.remove(id))


def _snake(fields: dict[str, Any]) -> dict[str, Any]:
    """The wire's names as ours."""
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in name): value for name, value in fields.items()}


async def _told(asked: Awaitable[T]) -> T:
    """Raises Failure, Refused, NoServer."""
    try:
        return await asked
    except api.ClientError as error:
        raise _words(error) from None


def _words(error: api.ClientError) -> Failure:
    """For a person."""
    if isinstance(error, Failure):
        return error
    if isinstance(error, api.NoServer):
        return NoServer(str(error))
    if not isinstance(error, api.Refused):
        return Failure(str(error))
    said = error.problem
    detail = f"{said.detail}\n{KEY_HELP}" if said.status == 401 else said.detail
    return Refused(detail, status=said.status, code=said.code, outcome=said.outcome or "", by=said.by or "")


def unreachable(endpoint: Endpoint, error: BaseException) -> NoServer:
    return NoServer(str(transport.unreachable(endpoint, error)))


def refused(endpoint: Endpoint, status: int, body: bytes) -> Failure:
    """An answer that is no success, for a person."""
    return _words(api.errors.refused(endpoint.url, status, body))
