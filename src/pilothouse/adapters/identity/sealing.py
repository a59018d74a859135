"""Secrets that must be read again are sealed with a key from a file of ours: who gets the database alone gets none.

sealed    12 random bytes || AES-256-GCM ciphertext and tag; what the secret belongs to is authenticated with it
key file  32 random bytes, mode 0600, made at the first seal; without it what was sealed is gone
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from pilothouse.engine.ports import SealBroken

KEY_BYTES = 32
NONCE_BYTES = 12


class KeyFileError(Exception):
    """The key file cannot be used; the message says why and what to do."""


class KeyFile:
    """A `Sealer` on a file."""

    def __init__(self, path: Path) -> None:
        """Reads the file, if there is one. Raises KeyFileError."""
        self._path = path
        self._cipher: AESGCM | None = None
        found = _read(path)
        if found is not None:
            self._cipher = AESGCM(found)

    def seal(self, secret: bytes, about: str) -> bytes:
        """Raises SealBroken."""
        if self._cipher is None:
            self._cipher = AESGCM(self._made())
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, about.encode())

    def unseal(self, sealed: bytes, about: str) -> bytes:
        """Raises SealBroken."""
        if self._cipher is None:
            raise SealBroken(f"{self._path.name} is missing")
        try:
            return self._cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], about.encode())
        except (InvalidTag, ValueError):
            raise SealBroken(f"{self._path.name} is not the file that sealed it") from None

    def _made(self) -> bytes:
        """On the disk before anything is sealed with it."""
        key = secrets.token_bytes(KEY_BYTES)
        new = self._path.with_suffix(".new")
        try:
            new.unlink(missing_ok=True)
            fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(fd, "wb") as file:
                file.write(key)
                file.flush()
                os.fsync(file.fileno())
            os.link(new, self._path)  # never over one that is there
            new.unlink()
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as error:
            raise SealBroken(f"{self._path} cannot be made: {error.strerror}") from None
        return key


def _read(path: Path) -> bytes | None:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise KeyFileError(f"{path} is not a file; remove it")
        if status.st_uid != os.geteuid():
            raise KeyFileError(f"{path} belongs to uid {status.st_uid}; run `chown {os.geteuid()} {path}`")
        if status.st_mode & 0o077:
            raise KeyFileError(
                f"{path} may be read by others: whoever did can use every key pair with a copy of the database. "
                f"Run `chmod 600 {path}`, and revoke the key pairs if in doubt"
            )
        key = os.read(fd, KEY_BYTES + 1)
    finally:
        os.close(fd)
    if len(key) != KEY_BYTES:
        raise KeyFileError(f"{path} has not its {KEY_BYTES} bytes; put it back from a backup, or remove it to make new")
    return key
