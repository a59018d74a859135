"""The agent's to-do list, put together from the calls that keep it."""

from __future__ import annotations

from typing import Any, Literal

from pilothouse.core import events as ev

ENTRIES_MAX = 200
_STATUS: dict[object, Literal["pending", "in_progress", "completed"]] = {
    "pending": "pending",
    "in_progress": "in_progress",
    "completed": "completed",
}


class Todo:
    """One per conversation."""

    def __init__(self) -> None:
        self._tasks: dict[str, ev.PlanEntry] = {}

    def done(self, tool: str, input: dict[str, Any], result: object) -> ev.Plan | None:
        """A call of `tool` has succeeded; the list as it is now, if that changed it."""
        match tool:
            case "TodoWrite":
                self._replace(input.get("todos"))
            case "TaskCreate":
                self._create(input, result)
            case "TaskUpdate":
                self._update(input)
            case _:
                return None
        return ev.Plan(entries=list(self._tasks.values())[:ENTRIES_MAX])

    def _replace(self, todos: object) -> None:
        entries = [todo for todo in todos if isinstance(todo, dict)] if isinstance(todos, list) else []
        self._tasks = {str(i): _entry(todo.get("content"), todo.get("status")) for i, todo in enumerate(entries)}

    def _create(self, input: dict[str, Any], result: object) -> None:
        task = result.get("task") if isinstance(result, dict) else None
        given = task.get("id") if isinstance(task, dict) else None
        self._tasks[str(given or len(self._tasks) + 1)] = _entry(input.get("subject"), "pending")

    def _update(self, input: dict[str, Any]) -> None:
        task = str(input.get("taskId", ""))
        before = self._tasks.get(task)
        if input.get("status") == "deleted":
            self._tasks.pop(task, None)
        elif before is not None:
            self._tasks[task] = _entry(input.get("subject") or before.content, input.get("status") or before.status)


def _entry(content: object, status: object) -> ev.PlanEntry:
    return ev.PlanEntry(content=str(content or "")[:1000], status=_STATUS.get(status, "pending"))
