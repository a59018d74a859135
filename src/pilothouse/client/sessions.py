"""`client.sessions`: isolated places with a workspace, one conversation and up to ten shells."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing

from pilothouse.client import follow
from pilothouse.client.follow import Event, Follower
from pilothouse.client.group import Group
from pilothouse.client.transport import read
from pilothouse.core.api.jobs import Log
from pilothouse.core.api.sessions import Limit, Limits, Network, NewSession, Project, Session, SessionChange, Wish


class Sessions(Group):
    async def make(
        self,
        *,
        agent: str | None = None,
        title: str | None = None,
        git: str | None = None,
        directory: str | None = None,
        permission_mode: str | None = None,
        model: str | None = None,
        limits: Mapping[str, float] | None = None,
        egress: Wish | None = None,
        key: str | None = None,
    ) -> Session:
        """A new session; nothing is started yet. `git`: a URL that is cloned when it starts; `directory`: one of the
        server's host, for its admins. `limits`: bytes, counts, for `cpu` processors. `key`: the caller's own word;
        whoever says it again within a day gets that session back. Raises BadRequest, Forbidden; Conflict where the key
        stands for another request."""
        source = Project(git=git, dir=directory) if git is not None or directory is not None else None
        body = NewSession(
            agent=agent, title=title, source=source, permission_mode=permission_mode, model=model,
            limits=dict(limits) if limits is not None else None, egress=egress,
        )  # fmt: skip
        return await self._transport.ask(Session, "POST", "/api/sessions", body=body, key=key)

    async def get(self, id: str) -> Session:
        """Raises NotFound, also for another's."""
        return await self._transport.ask(Session, "GET", f"/api/sessions/{id}")

    def each(self) -> AsyncGenerator[Session, None]:
        """Those that the caller may see, newest first, page by page."""
        return self._transport.each(Session, "/api/sessions")

    async def all(self) -> list[Session]:
        return [session async for session in self.each()]

    async def change(
        self,
        id: str,
        *,
        title: str | None = None,
        permission_mode: str | None = None,
        model: str | None = None,
        private: bool | None = None,
    ) -> Session:
        """What is not given stays. Raises BadRequest, Forbidden, NotFound."""
        body = SessionChange(title=title, permission_mode=permission_mode, model=model, private=private)
        return await self._transport.ask(Session, "PATCH", f"/api/sessions/{id}", body=body)

    async def stop(self, id: str) -> None:
        """Ends its processes; workspace and conversation stay."""
        await self._transport.send("POST", f"/api/sessions/{id}/stop")

    async def delete(self, id: str) -> None:
        """With its log and workspace."""
        await self._transport.send("DELETE", f"/api/sessions/{id}")

    async def limits(self, id: str) -> list[Limit]:
        """What it may use and uses; `used` is None where nobody counts, or while it does not run."""
        return (await self._transport.ask(Limits, "GET", f"/api/sessions/{id}/limits")).limits

    async def events(self, id: str, after: int = 0, limit: int = 500) -> Log:
        """Up to `limit` (1 to 1000) events with a number above `after`."""
        return await follow.page(self._transport, f"/api/sessions/{id}/events", after, limit)

    def follow(self, id: str, after: int = 0) -> AsyncGenerator[Event, None]:
        """Every event with a number above `after`, live, through cuts and restarts; it never ends by itself. Raises
        NoServer when the server stays away, Refused when the right to look ends."""
        return Follower(self._transport, f"/api/sessions/{id}/events", after).events()

    async def network(self, id: str) -> Network:
        """What it reaches, and has contacted."""
        return await self._transport.ask(Network, "GET", f"/api/sessions/{id}/network")

    async def set_egress(self, id: str, wish: Wish | None = None) -> Network:
        """What it reaches from now on; without a wish: as configured. Raises BadRequest, Forbidden."""
        return await self._transport.ask(Network, "PUT", f"/api/sessions/{id}/egress", body=wish or Wish())

    async def watch_network(self, id: str) -> AsyncGenerator[Network, None]:
        """At first all, then with every change the contacts that changed. It ends when the server goes: ask again.
        Raises NoServer, Refused."""
        async with aclosing(self._transport.stream(f"/api/sessions/{id}/network/stream")) as sent:
            async for one in sent:
                yield read(Network, one.data)
