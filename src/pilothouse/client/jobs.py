"""`client.jobs`: prompts, each run to its end."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing

from pilothouse.client import follow
from pilothouse.client.follow import Event, Follower
from pilothouse.client.group import Group
from pilothouse.core.api.jobs import Job, Log, NewJob
from pilothouse.core.chat import Attached


class Jobs(Group):
    async def submit(
        self,
        session: str,
        prompt: str,
        *,
        permission_mode: str | None = None,
        allowed_tools: Sequence[str] | None = None,
        max_cost_usd: float | None = None,
        max_tokens: int | None = None,
        model: str | None = None,
        timeout_s: int | None = None,
        attachments: Sequence[Attached] = (),
        steer: bool = False,
        key: str | None = None,
    ) -> Job:
        """Queues a prompt of at most 1 MiB; `steer` says it to the running job instead. `key` is the caller's own word
        (1 to 200 characters): the same again gives the same job, also for another prompt, so a lost connection is tried
        again; without one it gets one. Raises BadRequest, Forbidden, NotFound, Conflict (nothing to steer), TooMany."""
        body = NewJob(
            prompt=prompt, permission_mode=permission_mode,
            allowed_tools=None if allowed_tools is None else list(allowed_tools), max_cost_usd=max_cost_usd,
            max_tokens=max_tokens, model=model, timeout_s=timeout_s,
            client_message_id=str(uuid.uuid4()) if key is None else key, steer=steer, attachments=list(attachments),
        )  # fmt: skip
        return await self._transport.ask(Job, "POST", f"/api/sessions/{session}/jobs", body=body)

    async def get(self, id: str) -> Job:
        """Raises NotFound."""
        return await self._transport.ask(Job, "GET", f"/api/jobs/{id}")

    def each(self, session: str) -> AsyncGenerator[Job, None]:
        """The jobs of a session, newest first, page by page."""
        return self._transport.each(Job, f"/api/sessions/{session}/jobs")

    async def all(self, session: str) -> list[Job]:
        return [job async for job in self.each(session)]

    async def interrupt(self, id: str) -> None:
        """Tells the agent to end it; `follow` says when it has. Raises Conflict when it is done."""
        await self._transport.send("POST", f"/api/jobs/{id}/interrupt")

    async def events(self, id: str, after: int = 0, limit: int = 500) -> Log:
        """Up to `limit` (1 to 1000) events of the job with a number above `after`."""
        return await follow.page(self._transport, f"/api/jobs/{id}/events", after, limit)

    def follow(self, id: str, after: int = 0) -> AsyncGenerator[Event, None]:
        """The job's events, live, through cuts and restarts; the last one is its `Complete`. What is no longer kept is
        a `Gap`. Raises NoServer when the server stays away, Refused when the right to look ends."""
        return Follower(self._transport, f"/api/jobs/{id}/events", after, job=id).events()

    async def wait(self, id: str) -> Job:
        """The job when it is done."""
        job = await self.get(id)
        while job.state != "done":
            async with aclosing(self.follow(id, job.last_seq or 0)) as events:
                async for _ in events:
                    pass
            job = await self.get(id)
        return job
