"""A callable of this process as a hook, `package.module:name`: called as Lambda calls a handler, event and context.

A coroutine function is awaited. An ordinary one runs in one of the hook's own threads; one that hangs keeps its thread,
and when all of them hang, calls fail at once instead of waiting. The process ends without them. Whatever is raised is
the call's failure: `SystemExit` too, which would end the server. The code is the administrator's: it runs with the
server's rights.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from queue import SimpleQueue
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
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads = 0
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
        return _json(await self._in_thread(given, context))

    def _in_thread(self, event: Any, context: Context) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()

        def work() -> None:
            answer, error = self._run(event, context)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                loop.call_soon_threadsafe(self._ran, future, answer, error)

        self._running += 1
        if self._running > self._threads:
            self._threads += 1
            threading.Thread(target=self._worker, name="hook", daemon=True).start()
        self._work.put(work)
        return future

    def _worker(self) -> None:
        """`ThreadPoolExecutor` would wait for those that hang before the process ends."""
        while (work := self._work.get()) is not None:
            work()

    def _run(self, event: Any, context: Context) -> tuple[Any, HookFailed | None]:
        try:
            return self._function(event, context), None
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything; here it is contained
            return None, _failed(error)

    def _ran(self, future: asyncio.Future[Any], answer: Any, error: HookFailed | None) -> None:
        self._running -= 1
        if future.done():
            return  # nobody waits any more
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(answer)

    async def _await(self, answer: Any) -> Any:
        try:
            return _json(await answer)
        except HookFailed:
            raise
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            raise _failed(error) from None  # it is the code's own word, and nobody has ended us
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - likewise
            raise _failed(error) from None

    async def close(self) -> None:
        for _ in range(self._threads):
            self._work.put(None)


def _failed(error: BaseException) -> HookFailed:
    where = traceback.extract_tb(error.__traceback__)
    last = f" ({where[-1].filename}:{where[-1].lineno})" if where else ""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - its words are the user's code too
        said = "(it does not say)"
    return HookFailed(f"{type(error).__name__}: {said}{last}", type(error).__name__)


def _json(answer: Any) -> Any:
    """As Lambda would pass it on. Raises HookFailed."""
    try:
        return msgspec.json.decode(msgspec.json.encode(answer))
    except (TypeError, ValueError, RecursionError, msgspec.MsgspecError) as error:
        raise HookFailed(f"its answer is no JSON: {error}", "MarshalError") from None
