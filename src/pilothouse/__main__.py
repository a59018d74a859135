"""`pilothouse …`: picks a program and imports only that one."""

from __future__ import annotations

import sys
from importlib import import_module

from pilothouse import __version__

PROGRAMS = {"keeper": "keeper", "proxy": "proxy", "runner": "runner", "serve": "server"}
"""Word on the command line -> module with `main(argv) -> int`."""
TOOLS = {"config": "print_config", "doctor": "doctor"}
"""These look at this machine rather than at a server's wire, so they live beside the server."""

HELP = """\
Usage: pilothouse COMMAND [OPTIONS]

  Run coding agents in isolated sessions.

On this machine:
  serve     start the server and print a sign-in link
  config    print the effective configuration, secrets masked
  doctor    say what isolation and which model this machine gives

Talking to a server:
  run       run one prompt to its end
  chat      a conversation, line by line
  sh        a shell of a session, or a command in it
  ps        sessions and running jobs
  logs      what happened in a session or a job
  approve   approve a waiting tool call
  deny      deny a waiting tool call
  stop      stop sessions; workspace and conversation stay
  files     list or download a session's files
  network   what a session may reach, has contacted and was refused
  pub       publish events to a channel
  sub       show what is published to a channel
  secret    set, list and remove what shells and agents find in their environment
  ticket    print a fresh sign-in link
  keys      create, list and revoke API keys
  members   list, add, change and remove the members of an organisation
  organisations  list and make organisations
  usage     tokens and cost by day, person, key, session or model
  audit     who did what, from where; check an exported file
  webhook   send what happens to an address, signed; dead letters
  notify    how you are told when you are not looking: list, add, test, change

Started by the server: keeper, proxy, runner.

PILOTHOUSE_URL and PILOTHOUSE_API_KEY name another server than this machine's own.
`pilothouse COMMAND --help` says more.  Exit status: 0 done, 1 failed, 2 usage, 3 no server.
"""


def main(argv: list[str] | None = None) -> int:
    args = sys.argv[1:] if argv is None else argv
    word = args[0] if args else "--help"
    if word in {"--help", "-h", "help"}:
        _say(HELP)
        return 0
    if word in {"--version", "-V"}:
        _say(f"pilothouse {__version__}\n")
        return 0
    if word == "serve":
        return _serve(args[1:])
    if word in PROGRAMS:
        return int(import_module(f"pilothouse.{PROGRAMS[word]}").main(args[1:]))
    if word in TOOLS:
        tool = getattr(import_module("pilothouse.tools"), TOOLS[word])
        return int(tool(args[1:]))
    return _command_line(args)


def _serve(args: list[str]) -> int:
    from pilothouse.adapters.sandboxes import launcher

    forked = launcher.forked()  # before the server is in memory
    return int(import_module(f"pilothouse.{PROGRAMS['serve']}").main(args, forked))


def _command_line(args: list[str]) -> int:
    from pilothouse import cli, config

    try:
        found = config.load(make=False)
    except config.ConfigError as error:
        sys.stderr.write(f"Error: {error}\n")
        return 2
    settings = cli.Settings(
        url=found.remote_url.rstrip("/"),
        key=found.remote_key,
        server_file=found.server_file,
        key_file=found.local_key_file,
        editor=found.editor,
        color=not found.no_color,
    )
    return cli.main(args, settings)


def _say(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        sys.stderr.close()


if __name__ == "__main__":
    raise SystemExit(main())
