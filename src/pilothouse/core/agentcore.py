"""Addresses, ids and refusals of the AgentCore data plane, as its clients send and read them. Pure.

    /runtimes/{ARN or id}/ws/shells      the ARN percent-encoded as one segment, or not encoded at all
    arn:{partition}:bedrock-agentcore:{region}:{account}:runtime/{id}      also harness/{id}

A refusal is a status, the header `x-amzn-ErrorType` and `{"message": text}`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from urllib.parse import unquote

from pilothouse.core.errors import (
    BadRequest,
    BadSignature,
    Conflict,
    NotFound,
    PilothouseError,
    RateLimited,
    TooMany,
    Unauthenticated,
    Unavailable,
)

SESSION_HEADER = "X-Amzn-Bedrock-AgentCore-Runtime-Session-Id"
SHELL_HEADER = "X-Amzn-Bedrock-AgentCore-Shell-Id"
REQUEST_HEADER = "x-amzn-RequestId"
ERROR_HEADER = "x-amzn-ErrorType"
COMMAND_PROTOCOL = "v1.command.agentcore.aws.dev"
"""What signing clients may offer as subprotocol."""
SHELLS = "/ws/shells"
QUALIFIER = "DEFAULT"
"""The only endpoint that a runtime has here."""
MISDIRECTED = 421
"""What a request for another host is refused with everywhere here; AWS has no word for it."""
SESSION_MIN = 33
SESSION_MAX = 256
_ID = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,99}\Z")
_ARN = re.compile(
    r"arn:aws[a-z0-9-]{0,20}:bedrock-agentcore:[a-z0-9-]{1,32}:[0-9]{12}:(?:runtime|harness)/([A-Za-z][A-Za-z0-9_-]{0,99})\Z"
)
_SHOWN = 100


class Provisioning(Conflict):
    """Session operation in progress, please retry"""


def runtime(path: str) -> str:
    """The runtime's id in the raw path of its shells. Raises NotFound."""
    named = unquote(path.partition("/runtimes/")[2].removesuffix(SHELLS))
    found = _ARN.match(named)
    if found is not None:
        return found.group(1)
    if not _ID.match(named):
        raise NotFound(f"No endpoint or agent found for agent {named[:_SHOWN]!r}")
    return named


def qualifier(name: str | None, runtime: str) -> None:
    """Raises NotFound."""
    if name not in {None, QUALIFIER}:
        raise NotFound(f"No endpoint or agent found with qualifier {str(name)[:_SHOWN]!r} for agent {runtime!r}")


def session_id(text: str) -> str:
    """The caller's own word for a session. Raises BadRequest in AWS's words."""
    failed = "Value at 'runtimeSessionId' failed to satisfy constraint: Member must"
    if len(text) < SESSION_MIN:
        raise BadRequest(f"{failed} have length greater than or equal to {SESSION_MIN}")
    if len(text) > SESSION_MAX:
        raise BadRequest(f"{failed} have length less than or equal to {SESSION_MAX}")
    if not text.isascii() or not text.isprintable() or " " in text:
        raise BadRequest(f"{failed} be printable ASCII without spaces")
    return text


@dataclass(frozen=True, slots=True)
class Refusal:
    status: int
    name: str
    message: str

    @property
    def body(self) -> bytes:
        return json.dumps({"message": self.message}).encode()


def refusal(error: PilothouseError) -> Refusal:
    for kind, status, name in _REFUSALS:
        if isinstance(error, kind):
            return Refusal(status, name, error.message)
    if error.status < 500:
        return Refusal(MISDIRECTED if error.status == MISDIRECTED else 403, "AccessDeniedException", error.message)
    return Refusal(500, "InternalServerException", error.message)


_REFUSALS: tuple[tuple[type[PilothouseError], int, str], ...] = (
    (BadRequest, 400, "ValidationException"),
    (BadSignature, 403, "AccessDeniedException"),
    (Unauthenticated, 401, "UnauthorizedException"),
    (NotFound, 404, "ResourceNotFoundException"),
    (Provisioning, 409, "RetryableConflictException"),
    (Conflict, 409, "ConflictException"),
    (RateLimited, 429, "ThrottlingException"),
    (TooMany, 429, "ServiceQuotaExceededException"),
    (Unavailable, 424, "RuntimeClientError"),
)
"""The first that fits."""
