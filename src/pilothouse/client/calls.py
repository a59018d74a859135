"""`client.calls`: a prompt as programs give it, in one request."""

from __future__ import annotations

import uuid

from pilothouse.client.group import Group
from pilothouse.core.api.kept import Invocation
from pilothouse.core.invoke import Accepted, Answer, Output


class Calls(Group):
    async def invoke(self, wish: Invocation, *, key: str | None = None) -> Output:
        """Runs the prompt to its end, which may take as long as it likes; `success` says whether the job succeeded. The
        server knows the request by `key`, the caller's own word for it (1 to 200 characters; one is made otherwise), so
        that a lost connection is tried again and finds the same job. A `job_id` that was used gives the first job back,
        also for another prompt; a `key` that came with another request is a Conflict. Raises BadRequest, Conflict,
        NotFound, TooLarge, TooMany, Unavailable; then nothing was started."""
        word = str(uuid.uuid4()) if key is None else key
        return (await self._transport.ask(Answer, "POST", "/invoke", body=_given(wish), key=word)).output

    async def trigger(self, wish: Invocation, *, key: str | None = None) -> Accepted:
        """Starts the prompt and returns; `client.jobs.follow(job_id)` says how it goes. Otherwise as `invoke`."""
        word = str(uuid.uuid4()) if key is None else key
        return await self._transport.ask(Accepted, "POST", "/trigger", body=_given(wish), key=word)


def _given(wish: Invocation) -> dict[str, object]:
    found = {name: getattr(wish, name) for name in wish.__struct_fields__}
    return {name: value for name, value in found.items() if value is not None}
