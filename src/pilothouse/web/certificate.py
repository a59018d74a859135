"""The server's certificate and key: read, checked, and read again when they change.

Each reading makes a new TLS context, and only a whole and matching pair takes the place of the one before: who is
connected stays so, who comes next gets the new one. A pair that cannot be used is noted once, and the old one stays.

TLS 1.2 and later; of 1.2 only authenticated ciphers with forward secrecy; no compression, no renegotiation; HTTP/1.1.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import hashlib
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from pilothouse.core import hosts

CHECK_S = 5.0
"""How often the files are looked at: two `stat` calls."""
PEM_MAX = 1024 * 1024
"""Bytes of a file that is read for a certificate or a key; chains have some KB."""
CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""Of TLS 1.2; the default lets older ones in."""
_WORDS = {
    "KEY_VALUES_MISMATCH": "the key does not belong to the certificate",
    "EE_KEY_TOO_SMALL": "the key is too short",
    "CA_KEY_TOO_SMALL": "the key of an issuer in the chain is too short",
    "CA_MD_TOO_WEAK": "the chain is signed with a weak hash",
}

Note = Callable[[str, str], None]
"""A kind of what happened, and it in words."""


class BadPairError(Exception):
    """Certificate and key cannot be used; the message names the file and why."""


@dataclass(frozen=True, slots=True)
class Pair:
    context: ssl.SSLContext
    fingerprint: str
    """SHA-256 of the certificate, hexadecimal: by it this machine's own command line knows the server."""
    names: tuple[str, ...]
    begins: datetime.datetime
    ends: datetime.datetime


class Certificate:
    """The pair in use. Raises BadPairError when the first one cannot be used."""

    def __init__(self, cert: Path, key: Path) -> None:
        self._cert, self._key = cert, key
        self._state = self._look()
        self.pair = load(cert, key)
        self.on_change: list[Callable[[Pair], None]] = []
        self._timer: asyncio.TimerHandle | None = None

    def worries(self, names: Iterable[str], now: datetime.datetime) -> list[str]:
        """What does not keep the server from starting, and will keep people from coming."""
        pair, said = self.pair, []
        if pair.ends < now:
            said.append(f"{self._cert} has ended on {pair.ends:%Y-%m-%d %H:%M} UTC: clients will refuse it")
        if pair.begins > now:
            said.append(f"{self._cert} begins on {pair.begins:%Y-%m-%d %H:%M} UTC only: clients will refuse it")
        for name in sorted(set(names) - hosts.LOOPBACK):
            if not any(hosts.covers(pattern, name) for pattern in pair.names):
                said.append(f"{self._cert} does not name {name}, which server.hosts does")
        with contextlib.suppress(OSError):  # root could look at it, and root has been given up
            if self._key.stat().st_mode & 0o007:
                said.append(f"{self._key} can be read by everybody on this machine; run `chmod o= {self._key}`")
        return said

    def unreadable(self) -> str:
        """The file that could be read at the start and cannot be read any more, root being given up; empty for none.
        That is then known, and no change to be noted."""
        for path in (self._cert, self._key):
            try:
                path.open("rb").close()
            except OSError:
                self._state = self._look()
                return str(path)
        return ""

    def check(self, note: Note) -> None:
        """Reads the files again if they are not those of the last look."""
        state = self._look()
        if state == self._state:
            return
        self._state = state
        try:
            pair = load(self._cert, self._key)
        except BadPairError as error:
            note("certificate_refused", f"{error}; the one before stays in use")
            return
        self.pair = pair
        note("certificate_changed", f"{self._cert}, until {pair.ends:%Y-%m-%d %H:%M} UTC")
        for told in self.on_change:
            told(pair)

    def watch(self, note: Note, every: float = CHECK_S) -> None:
        """`check` from now on, until `close`."""
        self.check(note)
        self._timer = asyncio.get_running_loop().call_later(every, self.watch, note, every)

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> tuple[object, ...]:
        """What a new file has otherwise, be it written in place, moved there, or reached by another link."""
        seen: list[object] = []
        for path in (self._cert, self._key):
            try:
                status = path.stat()
            except OSError as error:
                seen.append(error.errno)
            else:
                seen.append((status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(seen)


def load(cert: Path, key: Path) -> Pair:
    """Raises BadPairError."""
    chain, secret = _read(cert, "server.tls_cert"), _read(key, "server.tls_key")
    try:
        first = x509.load_pem_x509_certificates(chain)[0]
    except ValueError:
        raise BadPairError(f"server.tls_cert: {cert} holds no certificate as PEM") from None
    if b"PRIVATE KEY-----" not in secret:
        raise BadPairError(f"server.tls_key: {key} holds no private key as PEM")
    if b"-----BEGIN ENCRYPTED PRIVATE KEY" in secret or b"Proc-Type: 4,ENCRYPTED" in secret:
        raise BadPairError(
            f"server.tls_key: {key} is encrypted, and nobody can type its password here; decrypt it "
            "(`openssl pkey`) into a file that the server alone may read"
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION | ssl.OP_CIPHER_SERVER_PREFERENCE
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(cert, key, lambda: b"")
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or str(error)
        raise BadPairError(
            f"server.tls_cert, server.tls_key: {cert} and {key} cannot be used: {_WORDS.get(reason, reason)}"
        ) from None
    digest = hashlib.sha256(first.public_bytes(Encoding.DER)).hexdigest()
    return Pair(context, digest, _names(first), first.not_valid_before_utc, first.not_valid_after_utc)


def _read(path: Path, setting: str) -> bytes:
    try:
        if path.exists() and not path.is_file():
            raise BadPairError(f"{setting}: {path} is no file")
        with path.open("rb") as file:
            data = file.read(PEM_MAX + 1)
    except OSError as error:
        raise BadPairError(f"{setting}: {path} cannot be read: {error.strerror}") from None
    if len(data) > PEM_MAX:
        raise BadPairError(f"{setting}: {path} is longer than {PEM_MAX} bytes, so it is something else")
    return data


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    """Host names as `Host` would have them."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return ()
    addresses = [f"[{a}]" if a.version == 6 else str(a) for a in found.get_values_for_type(x509.IPAddress)]
    return (*found.get_values_for_type(x509.DNSName), *addresses)
