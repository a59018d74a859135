"""`client.approvals`, `client.questions`, `client.rules`: what waits for a person, and what was remembered."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from typing import Any, Literal

from pilothouse.client.group import Group
from pilothouse.client.transport import given
from pilothouse.core.api.jobs import AgentQuestion, Answers, Approval, Decision, Rule

State = Literal["pending", "all"]


class Approvals(Group):
    async def get(self, id: str) -> Approval:
        """With its whole input. Raises NotFound."""
        return await self._transport.ask(Approval, "GET", f"/api/approvals/{id}")

    def each(self, state: State = "pending", session: str | None = None) -> AsyncGenerator[Approval, None]:
        """Of all sessions that the caller may see, or of one; newest first."""
        return self._transport.each(Approval, "/api/approvals", given(state=state, sessionId=session))

    async def all(self, state: State = "pending", session: str | None = None) -> list[Approval]:
        return [one async for one in self.each(state, session)]

    async def decide(
        self,
        approval: Approval,
        approved: bool,
        *,
        option: str | None = None,
        message: str | None = None,
        updated_input: Mapping[str, Any] | None = None,
    ) -> Approval:
        """The answer to what `approval` shows: if it is another input by now, nothing happens. `option`: the id of one
        of its options; `message`: what the agent is told; `updated_input`: what is run instead. Raises AlreadyResolved
        (the first answer stands), Conflict, Forbidden, BadRequest."""
        body = Decision(
            approved=approved, input_hash=approval.input_hash, option_id=option, message=message,
            updated_input=None if updated_input is None else dict(updated_input),
        )  # fmt: skip
        path = f"/api/approvals/{approval.approval_id}"
        return await self._transport.ask(Approval, "POST", path, body=body)


class Questions(Group):
    def each(self, state: State = "pending") -> AsyncGenerator[AgentQuestion, None]:
        """What agents ask, newest first."""
        return self._transport.each(AgentQuestion, "/api/questions", given(state=state))

    async def all(self, state: State = "pending") -> list[AgentQuestion]:
        return [one async for one in self.each(state)]

    async def answer(self, id: str, answers: Mapping[str, str]) -> None:
        """`answers` by the text of each question. Raises AlreadyResolved, BadRequest, NotFound."""
        await self._transport.send("POST", f"/api/questions/{id}", body=Answers(answers=dict(answers)))


class Rules(Group):
    async def all(self) -> list[Rule]:
        """Remembered answers: of one's own sessions, for an admin the organisation's."""
        return [one async for one in self._transport.each(Rule, "/api/rules")]

    async def remove(self, id: str) -> None:
        await self._transport.send("DELETE", f"/api/rules/{id}")
