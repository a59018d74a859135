"""`client.secrets`: values that shells and agents get by their names. No answer has a value in it."""

from __future__ import annotations

from urllib.parse import quote

from pilothouse.client.group import Group
from pilothouse.client.transport import given
from pilothouse.core.api.sessions import NewOwnSecret, NewSecret, Project, Secret


class Secrets(Group):
    """Without `session` the caller's own, of the account or of one project (`git` or `directory`)."""

    async def all(self, session: str | None = None) -> list[Secret]:
        """One's own, or those that reach the session."""
        return [one async for one in self._transport.each(Secret, _path(session))]

    async def set(
        self,
        name: str,
        value: str,
        *,
        use: str = "shells",
        file: bool = False,
        session: str | None = None,
        git: str | None = None,
        directory: str | None = None,
    ) -> Secret:
        """Sets or replaces it. `use`: `shells`, `agents` or `both`. Raises BadRequest, TooLarge, TooMany, Unavailable;
        then nothing has changed."""
        project = Project(git=git, dir=directory) if git is not None or directory is not None else None
        if session is None:
            body: NewSecret = NewOwnSecret(value=value, use=use, file=file, project=project)
        elif project is not None:
            raise ValueError("a secret is of a session or of a project, not of both")
        else:
            body = NewSecret(value=value, use=use, file=file)
        return await self._transport.ask(Secret, "PUT", _path(session, name), body=body)

    async def remove(
        self, name: str, *, session: str | None = None, git: str | None = None, directory: str | None = None
    ) -> None:
        """Shells and agents that run keep it. Raises NotFound."""
        await self._transport.send("DELETE", _path(session, name), params=given(git=git, dir=directory))


def _path(session: str | None, name: str | None = None) -> str:
    where = f"/api/sessions/{session}/secrets" if session is not None else "/api/secrets"
    return where if name is None else f"{where}/{quote(name, safe='')}"
