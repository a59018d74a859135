"""Certificates for tests: an authority, and what it or nobody has signed."""

from __future__ import annotations

import datetime
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = datetime.timedelta(days=1)


@dataclass
class Authority:
    """With one between it and what it signs, as real ones have."""

    root: x509.Certificate
    root_key: ec.EllipticCurvePrivateKey
    middle: x509.Certificate
    middle_key: ec.EllipticCurvePrivateKey

    @classmethod
    def make(cls) -> Authority:
        root_key, middle_key = _key(), _key()
        root = _certificate("Test root", root_key, None, root_key, authority=True)
        return cls(root, root_key, _certificate("Test middle", middle_key, root, root_key, authority=True), middle_key)

    def write(
        self,
        directory: Path,
        *names: str,
        begins: datetime.timedelta = -DAY,
        ends: datetime.timedelta = DAY,
        password: bytes | None = None,
        stem: str = "server",
    ) -> tuple[Path, Path]:
        """Chain and key as two files, each moved to its place whole."""
        key = _key()
        made = _certificate(names[0], key, self.middle, self.middle_key, names=names, begins=begins, ends=ends)
        seal = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
        pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, seal)
        cert_file, key_file = directory / f"{stem}.crt", directory / f"{stem}.key"
        for path, data, mode in ((cert_file, _pem(made) + _pem(self.middle), 0o644), (key_file, pem, 0o600)):
            new = path.with_suffix(".new")
            new.write_bytes(data)
            new.chmod(mode)
            new.rename(path)
        return cert_file, key_file

    def save(self, path: Path) -> Path:
        path.write_bytes(_pem(self.root))
        return path

    def client(self) -> ssl.SSLContext:
        """Trusts this authority's root alone."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=_pem(self.root).decode())
        context.set_alpn_protocols(["http/1.1"])
        return context


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _certificate(
    name: str,
    key: ec.EllipticCurvePrivateKey,
    issuer: x509.Certificate | None,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    authority: bool = False,
    names: tuple[str, ...] = (),
    begins: datetime.timedelta = -DAY,
    ends: datetime.timedelta = 100 * DAY,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    mine = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(mine)
        .issuer_name(issuer.subject if issuer else mine)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begins)
        .not_valid_after(now + ends)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(n) for n in names]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)
