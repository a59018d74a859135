"""Signs with botocore, as the one who is asked what is right. Requests are kept as what goes on the wire."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from unittest import mock
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from pilothouse.core import proof, sigv4
from pilothouse.core.sigv4 import Claim

ID, SECRET = "PHKAAAAAAAAAAAAAAAAA", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC).timestamp()


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    """Names as sent; values latin-1, as an ASGI server gives them."""
    body: bytes = b""

    def header(self, name: str, value: str | None) -> Request:
        """With this header instead of what there was; None: without it."""
        rest = tuple((n, v) for n, v in self.headers if n.lower() != name)
        return replace(self, headers=rest if value is None else (*rest, (name, value)))

    def of(self, name: str) -> str:
        [value] = [v for n, v in self.headers if n.lower() == name]
        return value

    def claim(self) -> Claim:
        return sigv4.from_request(self.method, self.path, self.query, [(n.lower(), v) for n, v in self.headers])


@contextlib.contextmanager
def at(now: float) -> Iterator[None]:
    with mock.patch("botocore.auth.get_current_datetime", lambda: datetime.fromtimestamp(now, UTC)):
        yield


def signed(
    method: str = "GET",
    url: str = "http://127.0.0.1:8420/api/me",
    headers: tuple[tuple[str, str], ...] = (),
    body: bytes = b"",
    *,
    presigned: int | None = None,
    token: str | None = None,
    service: str = "bedrock-agentcore",
    region: str = "us-east-1",
    now: float = NOW,
    key: tuple[str, str] = (ID, SECRET),
) -> Request:
    credentials = Credentials(*key, token)
    made = AWSRequest(method, url, data=body)
    for name, value in headers:
        made.headers.add_header(name, value)
    signer = (
        SigV4Auth(credentials, service, region)
        if presigned is None
        else SigV4QueryAuth(credentials, service, region, expires=presigned)
    )
    with at(now):
        signer.add_auth(made)
    where = urlsplit(made.url)
    sent = [("Host", where.netloc), *made.headers.items()]
    wire = tuple((name, str(value).encode().decode("latin-1")) for name, value in sent)
    return Request(method, where.path or "/", where.query, wire, body)


def holds(request: Request, *, now: float = NOW, secret: str = SECRET) -> bool:
    """Whether it stands, as the server would decide it. Raises BadSignature."""
    claim = request.claim()
    claim.check(now)
    body = proof.digest(request.body)
    if claim.access_key != ID:  # the one thing that is not signed: another's secret signs otherwise
        return False
    if claim.declared not in {None, body}:
        return False
    return proof.signed_by(claim, proof.signing_key(secret, claim), body)
