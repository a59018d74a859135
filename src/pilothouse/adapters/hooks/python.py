"""A callable of this process as a hook, `package.module:name`: called as Lambda calls a handler, event and context.

A coroutine function is awaited. An ordinary one runs in a thread of its own pool; one that hangs keeps its thread, and
when all of them hang, calls fail at once instead of waiting. The code is the administrator's: it runs with the server's
rights.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import msgspec

from pilothouse.engine.hooks import HookFailed

THREADS = 16
"""Of one hook."""


class NoCallable(ValueError):
    """What is configured cannot be called."""


class Context:
    """As much of Lambda's as handlers use."""

    function_name = "pilothouse"
    function_version = "$LATEST"
    memory_limit_in_mb = 512
    invoked_function_arn = "arn:aws:lambda:us-east-1:000000000000:function:pilothouse"
    log_group_name = log_stream_name = "pilothouse"

    def __init__(self, seconds: float) -> None:
        self.aws_request_id = str(uuid4())
        self._ends = time.monotonic() + seconds

    def get_remaining_time_in_millis(self) -> int:
        return max(int((self._ends - time.monotonic()) * 1000), 0)


class PythonHook:
    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self._function = function
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="hook")
        self._running = 0

    @classmethod
    def load(cls, name: str) -> PythonHook:
        """Raises NoCallable."""
        module, _, attribute = name.partition(":")
        try:
            found = getattr(importlib.import_module(module), attribute)
        except Exception as error:
            raise NoCallable(f"{name}: {type(error).__name__}: {error}") from error
        if not callable(found):
            raise NoCallable(f"{name}: it is not callable")
        return cls(name, found)

    async def call(self, event: Mapping[str, Any], seconds: float) -> Any:
        """Raises HookFailed."""
        given, context = msgspec.json.decode(msgspec.json.encode(event)), Context(seconds)  # what it changes is its own
        if inspect.iscoroutinefunction(self._function):
            return await self._await(self._function(given, context))
        if self._running >= THREADS:
            raise HookFailed("all its threads are busy", "TooManyRequestsException")
        self._running += 1
        future = asyncio.get_running_loop().run_in_executor(self._threads, self._run, given, context)
        future.add_done_callback(self._ran)
        return _json(await asyncio.shield(future))

    def _run(self, event: Any, context: Context) -> Any:
        try:
            return self._function(event, context)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything; here it is contained
            raise _failed(error) from None

    def _ran(self, future: asyncio.Future[Any]) -> None:
        self._running -= 1
        if not future.cancelled():
            future.exception()  # nobody may be left to see it

    async def _await(self, answer: Any) -> Any:
        try:
            return _json(await answer)
        except (HookFailed, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001 - likewise
            raise _failed(error) from None

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _failed(error: Exception) -> HookFailed:
    where = traceback.extract_tb(error.__traceback__)
    last = f" ({where[-1].filename}:{where[-1].lineno})" if where else ""
    return HookFailed(f"{type(error).__name__}: {error}{last}", type(error).__name__)


def _json(answer: Any) -> Any:
    """As Lambda would pass it on. Raises HookFailed."""
    try:
        return msgspec.json.decode(msgspec.json.encode(answer))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise HookFailed(f"its answer is no JSON: {error}", "MarshalError") from None
