"""Files of a session that never touch a disk: below `/run`, a file system in memory that goes with the session. A
directory for each shell, 0700, in it a file for each secret, 0600. Called inside, as the session's uid: an agent of
that uid may have laid anything there before, so nothing is followed, and nothing that is there is written into.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

from pilothouse.core.secret import DIRECTORY

RUN = "/run"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def write(shell: str, files: Mapping[str, str], run: str = RUN) -> dict[str, str]:
    """What the shell's environment says of them. Raises OSError; then none of them is there."""
    folder = _folder(run)
    try:
        os.mkdir(shell, 0o700, dir_fd=folder)
        own = os.open(shell, _DIRECTORY, dir_fd=folder)
        try:
            for name, text in files.items():
                fd = os.open(name, _NEW, 0o600, dir_fd=own)
                with os.fdopen(fd, "wb") as file:
                    file.write(text.encode())
        except OSError:
            remove(shell, run)
            raise
        finally:
            os.close(own)
    finally:
        os.close(folder)
    return {f"{name}_FILE": f"{run}/{DIRECTORY}/{shell}/{name}" for name in files}


def remove(shell: str, run: str = RUN) -> None:
    """With whatever else lies beside them."""
    with contextlib.suppress(OSError):
        folder = _folder(run)
        try:
            own = os.open(shell, _DIRECTORY, dir_fd=folder)
            try:
                for name in os.listdir(own):  # noqa: PTH208  a descriptor
                    with contextlib.suppress(OSError):
                        os.unlink(name, dir_fd=own)
            finally:
                os.close(own)
            os.rmdir(shell, dir_fd=folder)
        finally:
            os.close(folder)


def _folder(run: str) -> int:
    above = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(DIRECTORY, 0o700, dir_fd=above)
        return os.open(DIRECTORY, _DIRECTORY, dir_fd=above)
    finally:
        os.close(above)
