"""`client.files`: the workspace of a session."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager

from pilothouse.client.errors import Malformed
from pilothouse.client.group import Group
from pilothouse.core.api.jobs import Listing

READ_MAX = 64 * 1024 * 1024
"""Bytes of a file that `read` takes into memory; `open` gives larger ones in chunks."""


class Files(Group):
    async def listing(self, session: str, path: str = "") -> Listing:
        """A folder: directories first, then by name. Raises NotFound."""
        return await self._transport.ask(Listing, "GET", f"/api/sessions/{session}/files", params={"path": path})

    def open(self, session: str, path: str) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The file's bytes in chunks: `async with client.files.open(…) as chunks`. Raises NotFound, and NoServer when
        it breaks off."""
        return self._transport.download(f"/api/sessions/{session}/files/content", {"path": path})

    def zip(self, session: str, path: str = "") -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The folder as a zip, in chunks."""
        return self._transport.download(f"/api/sessions/{session}/files/zip", {"path": path})

    async def read(self, session: str, path: str) -> bytes:
        """The whole file. Raises NotFound, Malformed for one of more than `READ_MAX` bytes."""
        found = bytearray()
        async with self.open(session, path) as chunks:
            async for chunk in chunks:
                found += chunk
                if len(found) > READ_MAX:
                    raise Malformed(f"The file has more than {READ_MAX} bytes: take it in chunks.")
        return bytes(found)
