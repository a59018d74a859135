"""The command line as one click group, and how its ends become exit statuses."""

from __future__ import annotations

import os
import sys

import click

from pilothouse.cli.commands.access import keys, ticket
from pilothouse.cli.commands.approvals import approve, deny
from pilothouse.cli.commands.audit import audit
from pilothouse.cli.commands.events import pub, sub
from pilothouse.cli.commands.files import files
from pilothouse.cli.commands.members import members, organisations
from pilothouse.cli.commands.network import network
from pilothouse.cli.commands.notify import notify
from pilothouse.cli.commands.run import chat, run
from pilothouse.cli.commands.secret import secret
from pilothouse.cli.commands.sessions import logs, ps, stop
from pilothouse.cli.commands.sh import sh
from pilothouse.cli.commands.usage import usage
from pilothouse.cli.commands.webhook import webhook
from pilothouse.cli.errors import FAILED
from pilothouse.cli.settings import Settings
from pilothouse.cli.text import plain

COMMANDS = (
    run,
    chat,
    sh,
    ps,
    logs,
    approve,
    deny,
    stop,
    files,
    network,
    pub,
    sub,
    secret,
    ticket,
    keys,
    members,
    organisations,
    audit,
    usage,
    webhook,
    notify,
)


def main(argv: list[str], settings: Settings) -> int:
    group = click.Group("pilothouse", commands=list(COMMANDS))
    try:
        status = group.main(argv, prog_name="pilothouse", standalone_mode=False, obj=settings)
        sys.stdout.flush()
        return int(status or 0)
    except click.UsageError as error:
        error.show(sys.stderr)
        return error.exit_code
    except click.ClickException as error:
        sys.stderr.write(f"Error: {plain(error.message)}\n")
        return error.exit_code
    except BrokenPipeError:
        # Whoever read us has enough. Python would complain when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (KeyboardInterrupt, click.Abort):
        sys.stderr.write("\n")
        return FAILED
