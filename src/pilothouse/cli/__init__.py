"""The command line: a door like the page, speaking only the wire."""

from __future__ import annotations

from pilothouse.cli.program import main as main
from pilothouse.cli.settings import Settings as Settings
