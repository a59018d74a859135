"""What the command line is told by whoever starts it: it reads no environment of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    server_file: Path
    """`{"url", "pid"}` of this machine's own server, while it runs."""
    key_file: Path
    """The key this machine's own server made for us."""
    url: str = ""
    """Another server; then nothing is started here."""
    key: str = ""
    editor: str = ""
    color: bool = True

    def __repr__(self) -> str:
        return f"Settings(url={self.url!r})"  # never the key
