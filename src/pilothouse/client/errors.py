"""What goes wrong, as one tree.

    ClientError
    ├── NoServer            nobody answers, or the connection was lost; `url` says where
    ├── Malformed           an answer that this version does not understand
    └── Refused             the server said no: a problem document (RFC 9457)
        ├── BadRequest      400  the input is wrong; the message names the field
        ├── Unauthenticated 401  no credential, or one that does not stand
        ├── Forbidden       403  known, but may not
        ├── NotFound        404  unknown, or somebody else's
        ├── Conflict        409  not in this state; nothing has changed, unless it says that it was made, or begun
        │   └── AlreadyResolved  an approval or question has its answer: `outcome` and `by`
        ├── TooLarge        413  over a limit that the message names
        ├── TooMany         429  `retry_after_s`, and where a rate says so `limit`, `remaining`, `reset_at`
        └── Unavailable     5xx  it cannot be done now

`code` is the machine-readable word (`protocol/README.md`); further ones may come: an unknown one counts by its status.
"""

from __future__ import annotations

import msgspec

from pilothouse.core.api import Problem


class ClientError(Exception):
    """Whatever the client raises; as text it is a sentence for a person."""


class NoServer(ClientError):
    """Nobody answers."""


class Malformed(ClientError):
    """The answer is not what this version understands."""


class Refused(ClientError):
    """The server said no."""

    def __init__(self, problem: Problem, headers: dict[str, str] | None = None) -> None:
        super().__init__(problem.detail or problem.title)
        self.problem = problem
        self._headers = headers or {}

    @property
    def status(self) -> int:
        return self.problem.status

    @property
    def code(self) -> str:
        return self.problem.code


class BadRequest(Refused):
    """400"""


class Unauthenticated(Refused):
    """401"""


class Forbidden(Refused):
    """403"""


class NotFound(Refused):
    """404"""


class Conflict(Refused):
    """409"""


class AlreadyResolved(Conflict):
    """It has been answered; the first answer stands."""

    @property
    def outcome(self) -> str:
        return self.problem.outcome or ""

    @property
    def by(self) -> str:
        return self.problem.by or ""


class TooLarge(Refused):
    """413"""


class TooMany(Refused):
    """429: over a count, a rate, or a day's quota."""

    @property
    def retry_after_s(self) -> int:
        """Seconds until it may be tried again."""
        said = self._headers.get("retry-after", "")
        return self.problem.retry_after_s or (int(said) if said.isascii() and said.isdigit() else 1)

    @property
    def limit(self) -> int | None:
        return self.problem.limit

    @property
    def remaining(self) -> int | None:
        return self.problem.remaining

    @property
    def reset_at(self) -> int | None:
        """Seconds since 1970."""
        return self.problem.reset_at


class Unavailable(Refused):
    """5xx: trying again later may help."""


_BY_CODE: dict[str, type[Refused]] = {"already_resolved": AlreadyResolved}
_BY_STATUS: dict[int, type[Refused]] = {
    400: BadRequest, 401: Unauthenticated, 403: Forbidden, 404: NotFound, 409: Conflict, 413: TooLarge, 429: TooMany,
}  # fmt: skip


class _Said(msgspec.Struct, rename="camel"):
    """A problem document, or what stands in front of a server says instead of one."""

    title: str = ""
    code: str = ""
    detail: str = ""
    message: str = ""
    outcome: str | None = None
    by: str | None = None
    reason: str | None = None
    limit: int | None = None
    remaining: int | None = None
    reset_at: int | None = None
    retry_after_s: int | None = None


def refused(url: str, status: int, body: bytes, headers: dict[str, str] | None = None) -> Refused:
    """An answer that is no success."""
    try:
        said = msgspec.json.decode(body, type=_Said)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        said = _Said()
    detail = said.detail or said.message or said.title or f"the server at {url} answered {status}"
    problem = Problem(
        title=said.title, status=status, code=said.code, detail=detail, outcome=said.outcome, by=said.by,
        reason=said.reason, limit=said.limit, remaining=said.remaining, reset_at=said.reset_at,
        retry_after_s=said.retry_after_s,
    )  # fmt: skip
    usual = _BY_STATUS.get(status, Unavailable if status >= 500 else Refused)
    return _BY_CODE.get(said.code, usual)(problem, headers)
