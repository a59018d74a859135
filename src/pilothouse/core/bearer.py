"""Where callers put a bearer token. Each function takes the text of one place and gives the token, or None where there
is none of that form; what was found is believed by nobody yet.

    Authorization            `Bearer TOKEN`; the clients of AppSync write `TOKEN` alone
    Sec-WebSocket-Protocol   of AgentCore: `base64UrlBearerAuthorization.` + base64url(TOKEN), and
                             `base64UrlBearerAuthorization`
    Sec-WebSocket-Protocol   of AppSync Events: `header-` + base64url(a JSON object of headers, `Authorization` or
                             `x-api-key` among them), and `aws-appsync-event-ws`

The server says yes with the second of a pair, never with the one that carries the token.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pilothouse.core.token import TOKEN_MAX, BadToken, decode, looks_like, strict_object

AGENTCORE = "base64UrlBearerAuthorization"
APPSYNC = "aws-appsync-event-ws"
_APPSYNC_HEADER = "header-"
OFFER_MAX = 2 * TOKEN_MAX
"""Characters of one subprotocol: a token in base64url is a third longer, headers around it have their room."""
_ALPHABET = str.maketrans("+/", "-_")
HEADERS_MAX = 20
"""Of AppSync's object: a signed request has eight."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What a WebSocket brought among its subprotocols."""

    headers: Mapping[str, str]
    """As if they had come as headers: names in lower case."""
    answer: str
    """The subprotocol that the server says yes with."""


def ours(value: str) -> bool:
    """Whether an `Authorization` can be meant for us: a browser goes on sending what a proxy in front asked for."""
    return value.partition(" ")[0].lower() not in {"basic", "digest", "negotiate"}


def of_header(value: str | None) -> str | None:
    """The token of `Authorization: Bearer TOKEN`."""
    scheme, _, token = (value or "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def of_raw_header(value: str | None) -> str | None:
    """The same; a signed token may also stand alone, as AppSync has it."""
    found = of_header(value)
    if found is None and value is not None and " " not in value.strip() and looks_like(value.strip()):
        return value.strip()
    return found


def of_agentcore(offers: Sequence[str]) -> Offered | None:
    """The subprotocols of AgentCore's browsers. Raises BadToken for a pair that is broken or comes twice."""
    tokens = [one[len(AGENTCORE) + 1 :] for one in offers if one.startswith(AGENTCORE + ".")]
    if not tokens:
        return None
    if len(tokens) > 1 or AGENTCORE not in offers:
        raise BadToken(f"expected {AGENTCORE}.TOKEN once, and {AGENTCORE}")
    return Offered({"authorization": f"Bearer {_text(tokens[0])}"}, AGENTCORE)


def of_appsync(offers: Sequence[str]) -> Offered | None:
    """The subprotocols of AppSync's clients. Raises BadToken for what is no object of headers, or comes twice."""
    found = [one[len(_APPSYNC_HEADER) :] for one in offers if one.startswith(_APPSYNC_HEADER)]
    if not found:
        return None
    if len(found) > 1 or APPSYNC not in offers:
        raise BadToken(f"expected {_APPSYNC_HEADER}HEADERS once, and {APPSYNC}")
    try:
        given = strict_object(_bytes(found[0]))
    except BadToken:
        raise
    except ValueError:
        raise BadToken("header-: no JSON object, or one with a name twice") from None
    headers = {name.lower(): value for name, value in given.items() if isinstance(value, str)}
    if len(headers) != len(given) or len(given) > HEADERS_MAX:
        raise BadToken(f"header-: expected at most {HEADERS_MAX} texts, each name once")
    if not all(value.isprintable() for value in headers.values()):
        raise BadToken("header-: a value has characters that no header has")
    return Offered(headers, APPSYNC)


def _text(part: str) -> str:
    text = _bytes(part).decode("latin-1")
    if not text.isascii() or not text.isprintable() or not text:
        raise BadToken("a subprotocol has characters that no token has")
    return text


def _bytes(part: str) -> bytes:
    """base64url as clients write it: with or without padding, some in the other alphabet. Raises BadToken."""
    if len(part) > OFFER_MAX:
        raise BadToken(f"a subprotocol has at most {OFFER_MAX} characters")
    return decode(part.rstrip("=").translate(_ALPHABET))


def encoded(text: str) -> str:
    """As clients write it."""
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()
