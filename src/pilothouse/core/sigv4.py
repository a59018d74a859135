"""AWS Signature Version 4: what a signed request claims.

    Authorization: AWS4-HMAC-SHA256 Credential=ID/date/region/service/aws4_request, SignedHeaders=a;b, Signature=hex
    ?X-Amz-Algorithm=…&X-Amz-Credential=…&X-Amz-Date=…&X-Amz-Expires=…&X-Amz-SignedHeaders=…&X-Amz-Signature=hex
    {"authorization": "AWS4-HMAC-SHA256 …", "host": …, "x-amz-date": …, …}        in a frame: an object of the headers

`from_request` and `from_event` read a `Claim` and believe nothing of it; `Claim.check` holds it against time and place;
`core.proof` says whether it is true. What is acted upon must be signed: host, time, session token and the payload's
hash; a payload without one (`UNSIGNED-PAYLOAD`, `STREAMING-…`) is refused.

A signed request may be sent again within its time, as with AWS: clients that retry do so, and a second signature within
one second is the same. No error tells the signature that would have been right.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from pilothouse.core import canonical
from pilothouse.core.canonical import Headers
from pilothouse.core.errors import BadSignature

ALGORITHM = "AWS4-HMAC-SHA256"
SERVICES = frozenset({"bedrock-agentcore", "appsync"})
WINDOW_S = 300.0
"""How far a request's time may be from ours, either way; the five minutes of AWS."""
EXPIRES_MAX = 300
"""Seconds that a presigned address may live; what AgentCore's own clients ask for at most."""
CREDENTIAL_MAX = 16 * 1024
"""Characters of an Authorization, and of a session token."""
SIGNED_MAX = 100
"""Signed headers; SDKs sign a dozen."""
_ACTED_UPON = ("x-amz-date", "x-amz-security-token", "x-amz-content-sha256")
_IN_QUERY = ("X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
             "X-Amz-Signature")  # fmt: skip
_TOKEN = "X-Amz-Security-Token"  # noqa: S105  a name
_STAMP = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z\Z")
_ID = re.compile(r"[A-Za-z0-9]{1,128}\Z")
_PLACE = re.compile(r"[a-z0-9-]{1,64}\Z")
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_NAME = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]{1,100}\Z")


@dataclass(frozen=True, slots=True)
class Claim:
    """What a signed request says of itself."""

    access_key: str
    date: str
    region: str
    service: str
    stamp: str
    at: float
    """`stamp` as seconds since 1970."""
    expires: int | None
    """Seconds from `at`; None where the credential is no address."""
    host: str
    """As signed, which may be without its port."""
    declared: str | None
    """The payload's hash as the request says it."""
    token: str | None = field(repr=False)
    signature: str = field(repr=False)
    heads: tuple[bytes, ...] = field(repr=False)
    """The canonical request up to the payload's hash, in each spelling that counts."""

    @property
    def scope(self) -> str:
        return f"{self.date}/{self.region}/{self.service}/aws4_request"

    def check(self, now: float, *, services: frozenset[str] = SERVICES, region: str = "") -> None:
        """Raises BadSignature for another time, service or region (empty: any)."""
        if self.service not in services:
            raise _no(f"Credential: its service is {self.service!r}, not {' or '.join(sorted(services))}", "scope")
        if region and self.region != region:
            raise _no(f"Credential: its region is {self.region!r}, not {region!r}", "scope")
        ahead = self.at - now
        if ahead > WINDOW_S:
            raise _no(f"X-Amz-Date: it is {ahead:.0f} s ahead of this server's clock", "early")
        lives = WINDOW_S if self.expires is None else self.expires
        if -ahead > lives:
            raise _no(f"X-Amz-Date: it is {-ahead:.0f} s old; it was good for {lives:.0f} s", "expired")


# --- reading ---


def present(query: str, authorizations: Sequence[str]) -> bool:
    """Whether a request means to be signed; the cheap question, asked of every request."""
    return any(text.lstrip().upper().startswith("AWS4-") for text in authorizations) or (
        "X-Amz-" in query and any(name in _IN_QUERY for name in _names(query))
    )


def from_request(method: str, path: str, query: str, headers: Headers) -> Claim:
    """The claim of an HTTP request, in header or address. `path` and `query` as sent; names of headers in lower case,
    values latin-1. Raises BadSignature."""
    given = _collected(headers)
    found = canonical.pairs(query)
    authorizations = given.get("authorization", [])
    meant = [(canonical.meaning(name).decode("latin-1"), value) for name, value in found]
    if any(name in _IN_QUERY for name, _ in meant):
        if authorizations:
            raise _no("Two credentials: one in the address and one in Authorization", "malformed")
        return _presigned(method, path, found, meant, given)
    if len(authorizations) != 1:
        raise _no(f"Authorization: given {len(authorizations)} times", "malformed")
    part = _authorization(authorizations[0])
    spellings = [(canonical.method(method), canonical.path(path), one) for one in canonical.queries(found)]
    stamp, token = _only(given, "x-amz-date"), _only(given, "x-amz-security-token")
    return _claim(part, spellings, given, stamp, token, None, "latin-1")


def from_event(authorization: Mapping[str, Any], path: str) -> Claim:
    """The claim of an event API's authorization object: the headers of a POST to `path`, the address for HTTP, whatever
    the frame does. Names in any case. Raises BadSignature."""
    pairs = []
    for name, value in authorization.items():
        if not isinstance(value, str):
            raise _no(f"authorization: {name[:100]!r} is no text", "malformed")
        pairs.append((name.lower(), value))
    given = _collected(pairs)
    for name, values in given.items():
        if len(values) > 1:
            raise _no(f"authorization: {name[:100]!r} is given {len(values)} times", "malformed")
    part = _authorization(_only(given, "authorization") or "")
    spellings = [("POST", canonical.path(path), "")]
    stamp, token = _only(given, "x-amz-date"), _only(given, "x-amz-security-token")
    return _claim(part, spellings, given, stamp, token, None, "utf-8")


def _presigned(
    method: str, path: str, found: list[tuple[str, str]], meant: list[tuple[str, str]], given: dict[str, list[str]]
) -> Claim:
    part: dict[str, str] = {}
    for name, value in meant:
        if name not in {*_IN_QUERY, _TOKEN}:
            continue
        if name in part:
            raise _no(f"{name}: given more than once", "malformed")
        part[name] = canonical.meaning(value).decode("latin-1")
    missing = next((name for name in _IN_QUERY if name not in part), None)
    if missing:
        raise _no(f"{missing}: missing from the address", "malformed")
    if part["X-Amz-Algorithm"] != ALGORITHM:
        raise _no(f"X-Amz-Algorithm: expected {ALGORITHM}", "malformed")
    if "x-amz-date" in given or "x-amz-security-token" in given:
        raise _no("Two credentials: time or token are in the address and in a header", "malformed")
    lives = part["X-Amz-Expires"]
    if not lives.isascii() or not lives.isdigit() or len(lives) > 9 or not 1 <= int(lives) <= EXPIRES_MAX:
        raise _no(f"X-Amz-Expires: a whole number from 1 to {EXPIRES_MAX}", "malformed")
    rest = [pair for pair, (name, _) in zip(found, meant, strict=True) if name != "X-Amz-Signature"]
    spellings = [(canonical.method(method), canonical.path(path), one) for one in canonical.queries(rest)]
    short = {
        "Credential": part["X-Amz-Credential"],
        "SignedHeaders": part["X-Amz-SignedHeaders"],
        "Signature": part["X-Amz-Signature"],
    }
    return _claim(short, spellings, given, part["X-Amz-Date"], part.get(_TOKEN), int(lives), "latin-1")


def _authorization(text: str) -> dict[str, str]:
    if len(text) > CREDENTIAL_MAX:
        raise _no(f"Authorization: longer than {CREDENTIAL_MAX} characters", "malformed")
    algorithm, _, rest = text.strip(" \t").partition(" ")
    if algorithm != ALGORITHM:
        raise _no(f"Authorization: expected {ALGORITHM}", "malformed")
    part: dict[str, str] = {}
    for piece in rest.split(","):
        name, equals, value = piece.strip(" \t").partition("=")
        if not equals or name in part or name not in {"Credential", "SignedHeaders", "Signature"}:
            raise _no("Authorization: expected Credential=…, SignedHeaders=…, Signature=…, each once", "malformed")
        part[name] = value
    if len(part) < 3:
        raise _no("Authorization: it needs Credential, SignedHeaders and Signature", "malformed")
    return part


def _claim(
    part: dict[str, str],
    spellings: list[tuple[str, str, str]],
    given: dict[str, list[str]],
    stamp: str | None,
    token: str | None,
    expires: int | None,
    encoding: str,
) -> Claim:
    access_key, date, region, service = _credential(part["Credential"])
    if not _HEX.match(part["Signature"]):
        raise _no("Signature: expected 64 lower-case hex digits", "malformed")
    names = _signed(part["SignedHeaders"], given)
    if stamp is None:
        raise _no("X-Amz-Date: missing", "malformed")
    at = _time(stamp)
    if stamp[:8] != date:
        raise _no("Credential: its date is not that of X-Amz-Date", "scope")
    if token is not None and (not token or len(token) > CREDENTIAL_MAX):
        raise _no(f"{_TOKEN}: 1 to {CREDENTIAL_MAX} characters", "malformed")
    host = _host(given["host"])
    declared = _only(given, "x-amz-content-sha256")
    if declared is not None and not _HEX.match(declared):
        raise _no("X-Amz-Content-Sha256: expected the SHA-256 of the body; it has to be signed", "payload")
    texts = [
        f"{method}\n{path}\n{query}\n{_lines(names, given, spelled)}\n{';'.join(names)}\n"
        for spelled in dict.fromkeys((host, _portless(host)))
        for method, path, query in spellings
    ]
    try:
        heads = tuple(text.encode(encoding) for text in texts)
    except UnicodeEncodeError:
        raise _no("SignedHeaders: a value has characters that no header has", "malformed") from None
    signature = part["Signature"]
    return Claim(access_key, date, region, service, stamp, at, expires, host, declared, token, signature, heads)


def _credential(text: str) -> tuple[str, str, str, str]:
    parts = text.split("/")
    if len(parts) != 5 or parts[4] != "aws4_request":
        raise _no("Credential: expected ID/date/region/service/aws4_request", "malformed")
    access_key, date, region, service, _ = parts
    if not _ID.match(access_key):
        raise _no("Credential: the access key id is none", "malformed")
    if not re.match(r"[0-9]{8}\Z", date) or not _PLACE.match(region) or not _PLACE.match(service):
        raise _no("Credential: date, region or service are none", "malformed")
    return access_key, date, region, service


def _signed(text: str, given: dict[str, list[str]]) -> tuple[str, ...]:
    names = tuple(text.split(";")) if len(text) <= CREDENTIAL_MAX else ()
    if not 1 <= len(names) <= SIGNED_MAX or len(set(names)) < len(names) or not all(map(_NAME.match, names)):
        raise _no(f"SignedHeaders: 1 to {SIGNED_MAX} names in lower case, each once, with `;` between", "malformed")
    absent = next((name for name in names if name not in given), None)
    if absent is not None:
        raise _no(f"SignedHeaders: {absent} is signed but was not received", "unsigned")
    loose = next((n for n in ("host", *_ACTED_UPON) if n not in names and (n in given or n == "host")), None)
    if loose is not None:
        raise _no(f"SignedHeaders: {loose} has to be signed", "unsigned")
    return names


def _lines(names: tuple[str, ...], given: dict[str, list[str]], host: str) -> str:
    return "".join(f"{n}:{host if n == 'host' else canonical.value(n, given[n])}\n" for n in names)


def _host(values: list[str]) -> str:
    """Some clients send it twice, alike."""
    if len(set(values)) > 1:
        raise _no("Host: given twice, and not alike", "malformed")
    return canonical.value("host", values[:1])


def _portless(host: str) -> str:
    """Some clients sign the name and send it with its port."""
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() and not (":" in name and not name.endswith("]")) else host


def _time(stamp: str) -> float:
    match = _STAMP.match(stamp)
    try:
        if match:
            return datetime(*(int(part) for part in match.groups()), tzinfo=UTC).timestamp()  # type: ignore[misc,arg-type]
    except ValueError:
        pass
    raise _no("X-Amz-Date: expected YYYYMMDDTHHMMSSZ", "malformed")


def _collected(headers: Headers) -> dict[str, list[str]]:
    given: dict[str, list[str]] = {}
    for name, value in headers:
        given.setdefault(name, []).append(value)
    return given


def _only(given: dict[str, list[str]], name: str) -> str | None:
    values = given.get(name)
    if values is None:
        return None
    if len(values) > 1:
        raise _no(f"{name}: given {len(values)} times", "malformed")
    return canonical.value(name, values)


def _names(query: str) -> Iterator[str]:
    for part in query.split("&"):
        yield canonical.meaning(part.partition("=")[0]).decode("latin-1")


def _no(message: str, reason: str) -> BadSignature:
    return BadSignature(message, reason=reason)
