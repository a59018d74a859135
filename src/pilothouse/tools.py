"""Commands that look at this machine rather than at a server's wire: `pilothouse config` and `pilothouse doctor`."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys

from pilothouse import config
from pilothouse.adapters.proxies.local import LocalProxy
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.escape.examine import examine
from pilothouse.adapters.sandboxes.escape.planted import CannotPlant
from pilothouse.bootstrap import keeper_start
from pilothouse.config import Config, ConfigError
from pilothouse.core.errors import PilothouseError
from pilothouse.outside import connect_model, open_sandboxes

DEMO_HELP = """DEMO, a scripted stand-in, since no credential was found. To connect a real one, set and restart:
  - ANTHROPIC_API_KEY=...                          (Anthropic)
  - ANTHROPIC_AUTH_TOKEN=... ANTHROPIC_BASE_URL=...  (a compatible endpoint)
  - PILOTHOUSE_MODEL_PROVIDER=bedrock AWS_REGION=...  (Amazon Bedrock, the usual AWS credential chain)"""


def print_config(argv: list[str]) -> int:
    """`pilothouse config`: every setting as it is in force, secrets masked."""
    parser = argparse.ArgumentParser(prog="pilothouse config", description="Print the configuration in force.")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    try:
        found = config.shown(config.load(make=False))
    except ConfigError as error:
        sys.stderr.write(f"pilothouse: {error}\n")
        return 2
    if options.json:
        return _print([json.dumps(found, indent=2)])
    keys = {f.name: f.metadata["key"] or f.metadata["env"] for f in config.settings()}
    width = max(map(len, keys.values()))
    lines = []
    for name, value in found.items():
        shown = ", ".join(value) if isinstance(value, list) else "" if value is None else value
        lines.append(f"{keys[name]:{width}}  {shown}")
    return _print(lines)


def _print(lines: list[str]) -> int:
    try:
        sys.stdout.write("\n".join(lines) + "\n")
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough
        sys.stdout = open(os.devnull, "w")  # noqa: PTH123, SIM115  so that the interpreter's own flush is quiet
    return 0


def doctor(argv: list[str]) -> int:
    """`pilothouse doctor`: what isolation and which model this machine gives. 0 when sessions can run."""
    parser = argparse.ArgumentParser(prog="pilothouse doctor", description="Say what this machine gives.")
    parser.add_argument("--escape", action="store_true", help="attack a real session from inside and say what held")
    options = parser.parse_args(argv)
    try:
        settings = config.load()
    except ConfigError as error:
        sys.stderr.write(f"pilothouse: {error}\n")
        return 2
    return asyncio.run(_escape(settings) if options.escape else _doctor(settings))


async def _escape(settings: Config) -> int:
    """0 when nothing failed but what may in this profile."""
    models = LocalProxy(settings.runtime)
    sandboxes = await open_sandboxes(settings, models, keeper_start(settings))
    try:
        if not isinstance(sandboxes, Bubblewrap):
            sys.stderr.write("pilothouse: the sandbox is `host`: there is nothing to escape from\n")
            return 1
        probe = await sandboxes.probe()
        sys.stdout.write(f"Isolation: {probe.isolation}. {probe.summary}\n")
        report = await examine(sandboxes, settings.home, settings.runtime, isolation=probe.isolation)
    except (PilothouseError, CannotPlant, OSError) as error:
        sys.stderr.write(f"pilothouse: the escape suite could not run: {error}\n")
        return 1
    finally:
        await models.close()
        await sandboxes.close()
    _print(report.lines())
    return 1 if report.unexpected else 0


async def _doctor(settings: Config) -> int:
    models = LocalProxy(settings.runtime)
    sandboxes = await open_sandboxes(settings, models, keeper_start(settings))
    try:
        probe = await sandboxes.probe()
        sys.stdout.write(f"Isolation: {probe.isolation}. {probe.summary}\n")
        for finding in probe.findings:
            sys.stdout.write(f"  - {finding}\n")
        model = await connect_model(settings, models)
        if model.demo:
            sys.stdout.write(f"Model: {DEMO_HELP}\n")
        else:
            ready = "ready" if model.ready else f"not ready: {model.detail}"
            sys.stdout.write(f"Model: {model.provider}, {model.model}, {ready}\n")
    finally:
        await models.close()
        await sandboxes.close()
    return 0 if probe.usable else 1
