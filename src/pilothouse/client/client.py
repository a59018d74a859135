"""The client itself: where the server is, and the parts of its API."""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import TypeVar

from pilothouse.client.artifacts import Artifacts
from pilothouse.client.audit import Audit
from pilothouse.client.calls import Calls
from pilothouse.client.channels import Channels
from pilothouse.client.decisions import Approvals, Questions, Rules
from pilothouse.client.files import Files
from pilothouse.client.jobs import Jobs
from pilothouse.client.keys import Keys
from pilothouse.client.members import Members, Organisations
from pilothouse.client.notifications import Notifications
from pilothouse.client.secrets import Secrets
from pilothouse.client.sessions import Sessions
from pilothouse.client.shells import Shells
from pilothouse.client.transport import Endpoint, Find, Transport, checked
from pilothouse.client.usage import Used
from pilothouse.client.webhooks import Webhooks
from pilothouse.core.api.access import Me

T = TypeVar("T")


class Client:
    """Use as a context manager: `async with Client("http://127.0.0.1:8420", key) as client`.

    `fingerprint`: SHA-256, in hex, of the server's certificate, where that is its own. Instead of `url`, `find` says
    where the server is, and is asked again whenever the connection was lost. Raises NoServer for a `url` that is none.
    """

    def __init__(self, url: str = "", key: str = "", *, fingerprint: str = "", find: Find | None = None) -> None:
        if not url and find is None:
            raise ValueError("url: say where the server is")
        endpoint = Endpoint(checked(url) if url else "", key, fingerprint)

        async def there() -> Endpoint:
            return endpoint

        self.transport = transport = Transport(find or there)
        self.sessions = Sessions(transport)
        self.jobs = Jobs(transport)
        self.approvals = Approvals(transport)
        self.questions = Questions(transport)
        self.rules = Rules(transport)
        self.files = Files(transport)
        self.shells = Shells(transport)
        self.secrets = Secrets(transport)
        self.channels = Channels(transport)
        self.keys = Keys(transport)
        self.members = Members(transport)
        self.organisations = Organisations(transport)
        self.audit = Audit(transport)
        self.calls = Calls(transport)
        self.artifacts = Artifacts(transport)
        self.webhooks = Webhooks(transport)
        self.notifications = Notifications(transport)
        self.usage = Used(transport)

    async def __aenter__(self) -> Client:
        await self.transport.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.transport.close()

    async def me(self) -> Me:
        """Who one is, and what the server does. Raises Unauthenticated."""
        return await self.ask(Me, "GET", "/api/me")

    async def ask(
        self,
        kind: type[T],
        method: str,
        path: str,
        *,
        body: object = None,
        params: Mapping[str, str] | None = None,
        key: str | None = None,
        repeat: bool = False,
    ) -> T:
        """Any request, its JSON answer as `kind` (a msgspec struct, a dataclass, `dict[str, Any]`): for what has no
        method here yet. `key` becomes an `Idempotency-Key` (below `/api` a change always has one); it, a GET or
        `repeat` let a lost connection be tried again. Raises NoServer, Refused, Malformed."""
        return await self.transport.ask(kind, method, path, body=body, params=params, key=key, repeat=repeat)
