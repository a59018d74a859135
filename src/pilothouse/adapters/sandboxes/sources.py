"""Where a workspace comes from: which git URLs and host directories are accepted. Raises BadRequest with the reason."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path
from urllib.parse import urlsplit

from pilothouse.core.errors import BadRequest

URL_MAX = 2000
"""Longer than any forge's URL."""
NEVER = frozenset({"file", "ext", "fd", "git-remote-ext"})
"""They read the host or run a program; no setting allows them."""
_PLAIN = re.compile(r"[!-~]+\Z")
_SCHEME = re.compile(r"([a-z][a-z0-9+.-]*)://", re.IGNORECASE)


def git_url(url: str, schemes: tuple[str, ...] = ("https",)) -> str:
    """`url` as it may be handed to git, after `--`."""
    if not url or len(url) > URL_MAX:
        raise BadRequest(f"source.git: expected a URL of 1 to {URL_MAX} characters")
    if not _PLAIN.match(url):
        raise BadRequest("source.git: control characters, spaces or characters outside ASCII; percent-encode them")
    if url.startswith("-"):
        raise BadRequest("source.git: looks like an option, expected a URL")
    match = _SCHEME.match(url)
    allowed = [s for s in schemes if s not in NEVER]
    if match is None or match[1].lower() not in allowed:
        raise BadRequest(f"source.git: only {' and '.join(s + '://' for s in allowed)} URLs are cloned")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise BadRequest(f"source.git: {error}") from None
    if parts.username is not None or parts.password is not None:
        raise BadRequest("source.git: a URL with credentials would put them into the session; leave them out")
    if not host or host.startswith("-"):
        raise BadRequest("source.git: the URL names no host")
    return url


def directory(path: str, uid: int | None, home: Path, runtime: Path, people: tuple[Path, ...] = ()) -> Path:
    """A host directory that a session of `uid` may have as its workspace; None: sessions have uids of their own."""
    if not path or "\0" in path or len(path) > os.pathconf("/", "PC_PATH_MAX"):
        raise BadRequest("source.dir: expected the path of a directory")
    given = Path(path)
    if not given.is_absolute():
        raise BadRequest("source.dir: expected an absolute path")
    try:
        real = given.resolve(strict=True)
        status = real.stat()
    except (OSError, RuntimeError) as error:
        raise BadRequest(f"source.dir: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISDIR(status.st_mode):
        raise BadRequest("source.dir: not a directory")
    for ours in (home.resolve(), runtime.resolve()):
        if real.is_relative_to(ours) or ours.is_relative_to(real):
            raise BadRequest(f"source.dir: {real} holds or lies in the data of Pilothouse itself")
    if real == Path("/") or real in people or any(p.is_relative_to(real) for p in people):
        raise BadRequest(f"source.dir: {real} is a whole home directory or system; give a project's directory")
    _owned(real, status.st_uid, uid)
    return real


def _owned(real: Path, owner: int, uid: int | None) -> None:
    if uid is None:
        raise BadRequest(
            f"source.dir: {real} belongs to uid {owner}, but the server runs as root and gives every session a uid of "
            "its own, which could not write there; run the server as the directory's owner, or clone with git"
        )
    if owner != uid:
        raise BadRequest(f"source.dir: {real} belongs to uid {owner}, sessions run as uid {uid}")
