"""Which tool calls need a second person: an approver other than whoever asked for the job.

The rules are those of `core.policy`, `Tool` or `Tool(pattern)`, and a `*` at the end of a command's pattern is a
beginning: `Bash(git push:*)`, `Bash(git push*)`. They are read the careful way round: there a doubt keeps a rule from
matching, because it would allow something; here a doubt makes it match, because it asks for one more pair of eyes. So
with any rule about `Bash`, a command in which the shell could run more than one thing, or a program that runs others,
needs the second person too.

Such a call is always asked, whatever the mode, `allowedTools` or remembered answers say, unless they deny it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Sequence
from typing import Any

from pilothouse.core import policy, tools
from pilothouse.core.errors import BadRequest, Forbidden
from pilothouse.core.policy import Pattern

_QUOTES = frozenset("\"'")
EDITED = "Whoever edits it has asked for it, and nobody else has agreed: approve it as it is, or deny it."
REASON = "A second person has to agree: somebody other than whoever asked for it."


def patterns(entries: Sequence[str]) -> tuple[Pattern, ...]:
    """Raises BadRequest naming what is wrong."""
    try:
        return policy.allowed_tools(entries, frozenset({tools.NETWORK}))
    except BadRequest as refused:
        raise BadRequest(refused.message.replace("allowedTools: ", "", 1)) from None


def needed(rules: Iterable[Pattern], tool: str, tool_input: Any) -> bool:
    return any(rule.tool == tool and (not rule.spec or _concerns(rule, tool_input)) for rule in rules)


def check(askers: Sequence[str], account: str) -> None:
    """Raises Forbidden when whoever approves is one of those who asked, or nobody known."""
    if not account or account in askers:
        raise Forbidden("You asked for this; somebody else has to approve it.", code="second_approver")


def _concerns(rule: Pattern, tool_input: Any) -> bool:
    given = tool_input if isinstance(tool_input, dict) else {}
    if rule.tool == "Bash":
        return _concerns_command(rule.spec, given.get("command"))
    if rule.tool == "WebFetch" or tools.kind(rule.tool) in {"read", "edit", "delete", "move", "search"}:
        return policy.matches(rule, rule.tool, given) or policy.unclear(rule.tool, given)
    return True  # of other tools nobody knows which field the pattern is about


def _concerns_command(spec: str, command: object) -> bool:
    if not isinstance(command, str) or policy.doubtful(command):
        return True
    words = command.split()
    if not words or "=" in words[0]:
        return True
    program = posixpath.basename(words[0])
    begin = spec.removesuffix(":*").removesuffix("*").split()
    if policy.runs_others(program) or not begin or _QUOTES & set("".join(words[: len(begin)])):
        return True
    if program == begin[0] and len(words) > 1 and words[1].startswith("-"):
        return True  # options before the subcommand hide it
    said = " ".join([program, *words[1:]])
    whole, wanted = " ".join(begin), spec.endswith("*")
    if not wanted:
        return said == whole
    return said == whole or said.startswith(whole + (" " if spec.endswith(":*") else ""))
