"""Everything Pilothouse refuses, as one tree.

    PilothouseError
    ├── BadRequest            400  the caller's input is wrong; the message names the field
    ├── Unauthenticated       401  nobody, or nobody we know
    │   └── BadSignature      401  a signed request whose signature does not stand; `reason` says why
    ├── Forbidden             403  known, but may not
    ├── NotFound              404  unknown, or somebody else's: indistinguishable on purpose
    ├── Conflict              409  right in form, wrong in this state
    │   └── AlreadyResolved   409  an approval or question that has its answer
    ├── TooLarge              413  over a named limit
    ├── TooMany               429  over a count
    │   └── RateLimited       429  over a rate or a daily quota; says when to come back
    └── Unavailable           503  the server cannot do it now (store full, no sandbox, proxy away)

`code` is the machine-readable word of the wire, the docstring the general meaning, the message the particular.
"""

from __future__ import annotations


class PilothouseError(Exception):
    """Something Pilothouse refuses."""

    code = "error"
    status = 500

    def __init__(self, message: str = "", *, code: str | None = None, **details: object) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.details = details
        if code is not None:
            self.code = code

    @property
    def message(self) -> str:
        return str(self.args[0])

    @property
    def headers(self) -> dict[str, str]:
        """Of an answer by HTTP, in lower case, beside those of its status."""
        return {}


class BadRequest(PilothouseError):
    """The request is malformed."""

    code = "bad_request"
    status = 400


class Unauthenticated(PilothouseError):
    """Sign in, or give a valid key."""

    code = "unauthenticated"
    status = 401


class BadSignature(Unauthenticated):
    """The signature of the request does not stand."""

    code = "bad_signature"


class Forbidden(PilothouseError):
    """You may not do this."""

    code = "forbidden"
    status = 403


class NotFound(PilothouseError):
    """There is no such thing, or it is not yours to see."""

    code = "not_found"
    status = 404


class Conflict(PilothouseError):
    """The thing is not in a state that allows this."""

    code = "conflict"
    status = 409


class AlreadyResolved(Conflict):
    """It has been answered already; the first answer stands."""

    code = "already_resolved"


class TooLarge(PilothouseError):
    """It is larger than the limit."""

    code = "too_large"
    status = 413


class TooMany(PilothouseError):
    """Too many, too fast; come back later."""

    code = "too_many"
    status = 429


class RateLimited(TooMany):
    """Too many requests; come back later. Its details: `limit`, `remaining`, `resetAt` (seconds since 1970) and
    `retryAfterS`."""

    code = "rate_limited"

    @property
    def headers(self) -> dict[str, str]:
        """As HTTP says it; `Reset` in seconds since 1970."""
        names = {
            "limit": "x-ratelimit-limit",
            "remaining": "x-ratelimit-remaining",
            "resetAt": "x-ratelimit-reset",
            "retryAfterS": "retry-after",
        }
        return {header: str(self.details[name]) for name, header in names.items() if name in self.details}


class Unavailable(PilothouseError):
    """The server cannot do this at the moment."""

    code = "unavailable"
    status = 503
