"""`client.artifacts`: the files that jobs made or changed, as they were when each ended."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager

from pilothouse.client.group import Group
from pilothouse.core.api.kept import ArtifactLink, JobArtifact, NewArtifactLink


class Artifacts(Group):
    async def of_job(self, job: str) -> list[JobArtifact]:
        """All of one job; those that were not kept say why (`reason`)."""
        return [one async for one in self._transport.each(JobArtifact, f"/api/jobs/{job}/artifacts")]

    def of_session(self, session: str) -> AsyncGenerator[JobArtifact, None]:
        """Of all its jobs, page by page."""
        return self._transport.each(JobArtifact, f"/api/sessions/{session}/artifacts")

    async def get(self, id: str) -> JobArtifact:
        """Raises NotFound."""
        return await self._transport.ask(JobArtifact, "GET", f"/api/artifacts/{id}")

    def open(self, id: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Its bytes in chunks. Raises NotFound, and NoServer when it breaks off."""
        return self._transport.download(f"/api/artifacts/{id}/content")

    def zip(self, job: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """All of one job as a zip, in chunks."""
        return self._transport.download(f"/api/jobs/{job}/artifacts/zip")

    async def link(self, id: str, seconds: int = 300) -> ArtifactLink:
        """An address that is the credential for it, for 1 to 900 seconds."""
        body = NewArtifactLink(expires_in_s=seconds)
        return await self._transport.ask(ArtifactLink, "POST", f"/api/artifacts/{id}/links", body=body)
