"""One job watched to its end: shown, asked about, interrupted by Ctrl-C."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import msgspec

from pilothouse.cli import wire
from pilothouse.cli.asking import Asker
from pilothouse.cli.client import Client
from pilothouse.cli.errors import Failure
from pilothouse.cli.render import Transcript
from pilothouse.cli.terminal import Terminal
from pilothouse.cli.text import some
from pilothouse.cli.viewer import Viewer
from pilothouse.core import chat
from pilothouse.core import events as ev


class Left(Failure):
    """Ctrl-C a second time."""

    def __init__(self) -> None:
        super().__init__("left; the job may still be running")


class Watch:
    """`raw`: events go out as they came, and nothing else does."""

    def __init__(self, client: Client, terminal: Terminal, *, raw: bool = False) -> None:
        self._client = client
        self._terminal = terminal
        self._raw = raw
        self._asks = terminal.interactive and not raw
        self._transcript = Transcript(terminal.style, cards=self._asks, prompts=False)
        self._held: list[str] = []
        self._not_approved = 0
        self._asker = Asker(client, terminal, self._release)

    async def job(self, job: wire.Job, after: int) -> ev.Complete:
        """Follows the session from `after` to the job's end."""
        viewer = Viewer(self._client, job.session_id, after, self._terminal.notice)
        me = asyncio.current_task()
        assert me is not None
        with _ctrl_c(lambda: self._interrupt(job.id), me):
            try:
                async with aclosing(viewer.follow()) as items:
                    async for item in items:
                        done = self._take(item, job.id)
                        if done is not None:
                            self._tell_not_approved()
                            return done
            finally:
                await self._asker.close()
                self._release()
        raise AssertionError("following ends only with the job")

    def _take(self, item: chat.EventFrame | chat.Gap | chat.CaughtUp, job: str) -> ev.Complete | None:
        if isinstance(item, chat.Gap):
            self._terminal.notice(f"events {item.from_} to {item.to} are no longer kept")
            return None
        if isinstance(item, chat.CaughtUp) or item.job_id not in {None, job}:
            return None
        event = decode(item.raw)
        if self._raw:
            self._terminal.write_raw(item.raw)
        elif event is not None:
            self._show(event)
        if isinstance(event, ev.ApprovalRequired | ev.QuestionEvent):
            self._ask(event)
        elif isinstance(event, ev.ApprovalResolved) and event.outcome in {"denied", "expired"}:
            self._not_approved += 1
        return event if isinstance(event, ev.Complete) and event.job_id == job else None

    def _tell_not_approved(self) -> None:
        """Nobody watched: that something was left undone must not drown in the transcript."""
        count, self._not_approved = self._not_approved, 0
        if count and not self._asks:
            self._terminal.notice(f"{some(count, 'tool call')} {'was' if count == 1 else 'were'} not approved.")

    def _show(self, event: ev.LogEvent) -> None:
        self._write(self._transcript.feed(event))
        if isinstance(event, ev.ApprovalResolved):
            self._asker.resolved(event.approval_id)
        elif isinstance(event, ev.QuestionAnswered):
            self._asker.resolved(event.question_id)

    def _ask(self, event: ev.ApprovalRequired | ev.QuestionEvent) -> None:
        if self._asks:
            self._write(self._transcript.end_line())
            self._asker.add(event)
        elif isinstance(event, ev.ApprovalRequired):
            id = event.approval_id
            self._terminal.notice(f"waits for a decision: `pilothouse approve {id}` or `pilothouse deny {id}`")
        else:
            self._terminal.notice("the agent asks a question; answer it in the page or with `pilothouse chat`")

    def _write(self, words: str) -> None:
        """While the person is being asked the rest waits, or it would run through the question."""
        if self._asker.busy:
            self._held.append(words)
        else:
            self._terminal.write(words)

    def _release(self) -> None:
        held, self._held = self._held, []
        self._terminal.write("".join(held))

    async def _interrupt(self, job: str) -> None:
        self._terminal.notice("interrupting the job; Ctrl-C again leaves at once")
        try:
            await self._client.interrupt(job)
        except Failure as failure:
            self._terminal.notice(failure.message)


def decode(raw: bytes) -> ev.LogEvent | None:
    """None: an event of a newer server, which we cannot show but must not stumble over."""
    try:
        return ev.decode(raw)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


@contextmanager
def _ctrl_c(interrupt: Callable[[], Coroutine[Any, Any, None]], me: asyncio.Task[Any]) -> Iterator[None]:
    """The first Ctrl-C calls `interrupt`, the second ends the watching."""
    loop = asyncio.get_running_loop()
    pressed: list[asyncio.Task[None]] = []

    def press() -> None:
        if pressed:
            me.cancel()
        else:
            pressed.append(loop.create_task(interrupt()))

    loop.add_signal_handler(signal.SIGINT, press)
    try:
        yield
    except asyncio.CancelledError:
        if not pressed:
            raise
        me.uncancel()
        raise Left from None
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        for task in pressed:
            task.cancel()
