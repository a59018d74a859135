"""The server: configuration -> stores -> engine -> doors. Everything is wired here and nowhere else.

It holds no agent, no shell and no model connection, so it may be killed and started again at any time: sandboxes live
under the keeper, calls to the model in the proxy, and what happened is in the log.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import structlog
import uvicorn
import uvloop

from pilothouse import __version__, config
from pilothouse.adapters.identity.keys import Identity
from pilothouse.adapters.proxies.local import LocalProxy
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.adapters.sandboxes.host import Host
from pilothouse.adapters.stores.memory import MemoryStore
from pilothouse.adapters.stores.sqlite import SqliteStore
from pilothouse.config import Config, ConfigError
from pilothouse.core.errors import PilothouseError
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.kit import Kit, Limits
from pilothouse.engine.log import Log
from pilothouse.engine.ports import EventStore, Probe, Put
from pilothouse.engine.rules import Rules
from pilothouse.engine.sessions import Sessions
from pilothouse.engine.upkeep import Upkeep
from pilothouse.engine.usage import UsageIntake
from pilothouse.web.app import application
from pilothouse.web.call import Platform
from pilothouse.web.chat import ChatDoor, Hub
from pilothouse.web.guard import LOOPBACK, Guard, Trust

LOOPBACK_BINDS = {"127.0.0.1", "::1", "localhost"}
DRAIN_S = 5
"""Requests in flight at SIGTERM get this long."""
