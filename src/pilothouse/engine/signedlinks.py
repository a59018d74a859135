"""Links that open one artifact for a while, without any other credential: for a browser's own download, or a colleague.

    /api/artifacts/<id>/signed?expires=<seconds since 1970>&signature=<base64url of HMAC-SHA256>

The key is the installation's own, made at the first link and kept sealed. What is signed: purpose, artifact, expiry,
each on a line. A link lives at most LIFE_MAX_S and opens nothing when the artifact is gone.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
from collections.abc import Iterator

from pilothouse.core.errors import NotFound, TooMany, Unavailable
from pilothouse.core.ids import ArtifactId
from pilothouse.engine.ownkey import OwnKey
from pilothouse.engine.ports import Clock, EventStore, Sealer

LIFE_S = 300
LIFE_MAX_S = 900
"""A link is a secret in an address, which others may come to see: none lives longer."""
OPEN_MAX = 200
"""Downloads by such links at one time: nobody's own limit counts them."""
_PURPOSE = b"pilothouse artifact link\n"


class SignedLinks:
    def __init__(self, store: EventStore, clock: Clock, sealer: Sealer) -> None:
        self._clock = clock
        self._key = OwnKey(store, sealer, "artifacts", "artifact links")
        self._open = 0

    @contextlib.contextmanager
    def room(self) -> Iterator[None]:
        """For one more download by such a link. Raises TooMany."""
        if self._open >= OPEN_MAX:
            raise TooMany("Too many files are being downloaded by links; try again.")
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    async def make(self, artifact: ArtifactId, life_s: int = LIFE_S) -> tuple[str, int]:
        """The link's path and query, and when it ends. Raises Unavailable."""
        expires = int(self._clock.now()) + min(life_s, LIFE_MAX_S)
        signature = _signed(await self._key.get(), artifact, expires)
        return f"/api/artifacts/{artifact}/signed?expires={expires}&signature={signature}", expires

    async def check(self, artifact: str, expires: str, signature: str) -> None:
        """Raises NotFound: a link that is wrong, over, or another's opens nothing, and says nothing."""
        if not (expires.isascii() and expires.isdigit() and len(expires) < 13):
            raise NotFound
        try:
            right = _signed(await self._key.get(make=False), artifact, int(expires))
        except Unavailable:
            raise NotFound from None
        now = self._clock.now()
        if not hmac.compare_digest(right.encode(), signature.encode("utf-8", "surrogatepass")):
            raise NotFound
        if not now < int(expires) <= now + LIFE_MAX_S + 1:
            raise NotFound


def _signed(key: bytes, artifact: str, expires: int) -> str:
    text = _PURPOSE + f"{artifact}\n{expires}".encode("utf-8", "surrogatepass")
    return base64.urlsafe_b64encode(hmac.digest(key, text, hashlib.sha256)).rstrip(b"=").decode()
