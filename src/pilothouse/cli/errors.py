"""How a command ends when it cannot do its work: one line for the person and an exit status.

ClickException
├── UsageError (click's own)  2  the options are wrong
└── Failure                   1  it did not work
    ├── Refused               1  the server said no: its `detail`
    └── NoServer              3  nobody answers
"""

from __future__ import annotations

import click

from pilothouse import client

FAILED = 1
USAGE = 2
NO_SERVER = 3


class Failure(click.ClickException):
    exit_code = FAILED


class Refused(Failure):
    """A problem document of the server."""

    def __init__(self, message: str, *, status: int, code: str = "", outcome: str = "", by: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.outcome = outcome
        self.by = by


class NoServer(Failure, client.NoServer):
    """Also for the client, which waits for a server that was there."""

    exit_code = NO_SERVER
