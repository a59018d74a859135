"""May this tool call run? A pure answer from mode, allowed tools, remembered rules and the exact input; fails closed.

Order, first match wins:

1. a remembered *deny* rule                                -> deny
2. `allowedTools` given and the call matches none of it    -> deny
3. the agent's question to a person, a plan to accept      -> ask (a plan goes ahead under `acceptAll`)
4. a remembered *allow* rule                               -> allow (not in `plan`)
5. the mode:

| mode | reading inside the workspace | bookkeeping (to-do list) | edits inside the workspace | the rest |
|---|---|---|---|---|
| `acceptAll` | allow | allow | allow | allow |
| `acceptEdits` | allow | allow | allow, but protected files ask | ask; allow when `allowedTools` names it |
| `manual` | ask | ask | ask | ask |
| `plan` | allow | allow | deny, but the agent's own plan file is allowed | deny |
| `dontAsk` | allow | allow | deny; allow when `allowedTools` names it | deny; allow when `allowedTools` names it |

A rule is `Tool`, or `Tool(pattern)`: for `Bash` an exact command or `prefix:*`; for file tools a path pattern below
the workspace (`src/**`); for `WebFetch` `domain:NAME`. A prefix never matches a command in which the shell could run
more than one thing or substitute anything: such a command is asked about, since its text does not tell what will run.
Rules serve a person's convenience. What the session can reach is bounded by its sandbox, not by them.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, Literal

from pilothouse.core import places, tools
from pilothouse.core.errors import BadRequest

Mode = Literal["acceptEdits", "manual", "acceptAll", "plan", "dontAsk"]
Verdict = Literal["allow", "ask", "deny"]

MODES: dict[str, Mode] = {
    "acceptEdits": "acceptEdits",
    "manual": "manual",
    "acceptAll": "acceptAll",
    "plan": "plan",
    "dontAsk": "dontAsk",
    "default": "manual",
    "bypassPermissions": "acceptAll",
}
"""Our names and the agents' own."""

NETWORK_ASKED: frozenset[Mode] = frozenset({"acceptEdits", "manual"})
"""Modes in which a person is asked about a domain that is not on the session's list. In `acceptAll` nobody is asked
about anything; that speaks of tools, the list is another boundary, so it is refused there as well."""

WORKSPACE = places.WORKSPACE
PLAN_FILES = "/home/agent/.claude/plans"
PATTERNS_MAX = 100
"""Entries of one `allowedTools`: more is no list that a person wrote."""
_PROTECTED = re.compile(
    r"(^|/)(\.git|\.claude|\.vscode|\.idea|\.husky)(/|$)"
    r"|(^|/)(\.mcp\.json|\.gitmodules|\.gitconfig|\.[a-z_]*(rc|profile|aliases|env|login|logout))$"
)
"""Files that make other programs run commands: changing one is asked about even where edits go ahead."""
_SHELL_DOUBT = re.compile(r"[;&|`$<>(){}\n\r\\*?\[\]~#!\x00]")
_WITH_SUBCOMMANDS = frozenset(
    (
        *("apt", "apt-get", "aws", "bun", "cargo", "docker", "dotnet", "gh", "git", "go", "helm", "kubectl", "make"),
        *("mvn", "npm", "npx", "pip", "pnpm", "poetry", "terraform", "uv", "yarn"),
    )
)
"""Programs whose second word says what they do: remembering the first alone would allow too much."""
_RUNS_OTHERS = frozenset(
    (
        *("awk", "bash", "builtin", "busybox", "chroot", "command", "dash", "deno", "doas", "env", "eval", "exec"),
        *("expect", "find", "fish", "flock", "gawk", "ionice", "ksh", "lua", "nice", "node", "nohup", "parallel"),
        *("perl", "php", "ruby", "script", "setsid", "sh", "source", "ssh", "stdbuf", "strace", "su", "sudo", "time"),
        *("timeout", "tsx", "unshare", "watch", "xargs", "zsh", "."),
    )
)
"""Programs that run whatever their arguments say: only the exact command is remembered."""
_PYTHON = re.compile(r"(python|pypy)[0-9.]*\Z")
_URL = re.compile(r"https?://([A-Za-z0-9.-]+)(?::\d+)?(?:[/?#]|\Z)", re.ASCII)
_GLOB = frozenset("*?[]{}")
_PATTERN = re.compile(r"(?P<tool>[A-Za-z][A-Za-z0-9_-]{0,127})(?:\((?P<spec>.{1,1000})\))?\Z", re.S)


@dataclass(frozen=True, slots=True)
class Pattern:
    tool: str
    spec: str = ""

    def __str__(self) -> str:
        return f"{self.tool}({self.spec})" if self.spec else self.tool


@dataclass(frozen=True, slots=True)
class Rule:
    """A remembered answer."""

    pattern: Pattern
    outcome: Literal["approved", "denied"]


@dataclass(frozen=True, slots=True)
class Decision:
    verdict: Verdict
    reason: str


def mode(name: str) -> Mode:
    """Raises BadRequest for an unknown mode."""
    if name not in MODES:
        raise BadRequest(f"permissionMode: {name!r} is none of {', '.join(MODES)}")
    return MODES[name]


def pattern(text: str) -> Pattern:
    """Raises BadRequest for what is no pattern."""
    match = _PATTERN.match(text.strip())
    if match is None:
        raise BadRequest(f"tool pattern: {text[:100]!r} is not of the form Tool or Tool(pattern)")
    return Pattern(match["tool"], match["spec"] or "")


def allowed_tools(entries: Sequence[str], offered: frozenset[str] | None = None) -> tuple[Pattern, ...]:
    """The patterns of an `allowedTools`, older names resolved. Raises BadRequest naming an unknown tool. `offered`:
    the agent's tools besides the known ones; MCP tools (`mcp__…`) are known by their form."""
    if len(entries) > PATTERNS_MAX:
        raise BadRequest(f"allowedTools: {len(entries)} entries, at most {PATTERNS_MAX}")
    out: list[Pattern] = []
    for entry in entries:
        if not isinstance(entry, str):
            raise BadRequest("allowedTools: expected texts")
        try:
            one = pattern(entry)
        except BadRequest as refused:
            raise BadRequest(f"allowedTools: {refused.message}") from None
        names = tools.ALIASES.get(one.tool, (one.tool,))
        if not all(n in tools.KINDS or n.startswith("mcp__") or n in (offered or ()) for n in names):
            raise BadRequest(f"allowedTools: unknown tool {one.tool!r}")
        out += [Pattern(name, one.spec) for name in names]
    return tuple(out)


def inside(path: str, root: str = WORKSPACE) -> str | None:
    """The path relative to `root` if it lies in it by its text, else None. Links are the sandbox's business.

    A leading `~` is a home for the agents' tools, and white space around a path is dropped by them: such a path is
    not what its text says here, so it counts as outside."""
    if "\x00" in path or path.startswith("~") or path != path.strip() or path.strip("\ufeff") != path:
        return None
    full = posixpath.normpath(posixpath.join(root, path))
    if full == root:
        return "."
    return full[len(root) + 1 :] if full.startswith(root + "/") else None


def matches(rule: Pattern, tool: str, tool_input: Any) -> bool:
    """Does the rule speak of this very call?"""
    if rule.tool != tool:
        return False
    if not rule.spec:
        return True
    given = tool_input if isinstance(tool_input, dict) else {}
    if tool == "Bash":
        return _matches_command(rule.spec, given.get("command"))
    if tool == "WebFetch":
        return _matches_domain(rule.spec, given.get("url"))
    relative = _where(tool, given)
    return relative is not None and _matches_path(rule.spec, relative)


def doubtful(command: str) -> bool:
    """Whether the shell could run more than one thing, or something else than the text says."""
    return _SHELL_DOUBT.search(command) is not None


def runs_others(program: str) -> bool:
    """Whether what this program does stands in its arguments."""
    return program in _RUNS_OTHERS or _PYTHON.match(program) is not None


def unclear(tool: str, tool_input: Any) -> bool:
    """Whether a call's place cannot be told from its text: it names none, several, or one outside the workspace; or,
    where the web is meant, no address."""
    if tool == "WebFetch":
        return not isinstance(tool_input, dict) or _URL.match(str(tool_input.get("url", ""))) is None
    return _where(tool, tool_input) is None


def _where(tool: str, tool_input: Any) -> str | None:
    """The one place below the workspace that a call names. None when it names none, several, or one outside."""
    if not isinstance(tool_input, dict):
        return None
    given = [tool_input[name] for name in tools.PATH_FIELDS if tool_input.get(name)]
    if len(given) != 1 or not isinstance(given[0], str) or not _stays(tool, tool_input):
        return None
    return inside(given[0])


def _stays(tool: str, tool_input: dict[str, Any]) -> bool:
    """A `Glob` names files by its pattern too: `/etc/**` and `../**` leave the place that `path` names."""
    if tool != "Glob":
        return True
    glob = tool_input.get("pattern", "")
    if not isinstance(glob, str) or ".." in glob or "\\" in glob or "{/" in glob or ",/" in glob:
        return False
    start = re.split(r"[*?\[{]", glob, maxsplit=1)[0]
    return not glob or inside(start or ".") is not None


def _here(tool: str, tool_input: Any) -> bool:
    """A search that names no place searches where the agent is: the workspace."""
    return (
        tools.kind(tool) == "search"
        and isinstance(tool_input, dict)
        and not any(tool_input.get(name) for name in tools.PATH_FIELDS)
        and _stays(tool, tool_input)
    )


def _matches_command(spec: str, command: object) -> bool:
    if not isinstance(command, str):
        return False
    if not spec.endswith(":*"):
        return command == spec
    prefix = spec[:-2]
    if not prefix.strip() or _SHELL_DOUBT.search(command):
        return False
    return command == prefix or command.startswith(prefix + " ")


def _matches_domain(spec: str, url: object) -> bool:
    if not isinstance(url, str) or not spec.startswith("domain:"):
        return False
    match = _URL.match(url)
    return match is not None and match[1].lower() == spec[len("domain:") :].lower()


def _matches_path(spec: str, relative: str) -> bool:
    spec = spec.removeprefix("./")
    if spec.endswith("/**"):
        return relative.startswith(spec[:-2])
    return fnmatchcase(relative, spec) and relative.count("/") == spec.count("/")


def decide(
    tool: str, tool_input: Any, *, mode: Mode, allowed: Sequence[Pattern] | None = None, rules: Sequence[Rule] = ()
) -> Decision:
    """`allowed` None: no restriction."""
    for rule in rules:
        if rule.outcome == "denied" and matches(rule.pattern, tool, tool_input):
            return Decision("deny", f"A remembered rule denies {rule.pattern}.")
    listed = allowed is not None and any(matches(p, tool, tool_input) for p in allowed)
    if tool in {"AskUserQuestion", "ExitPlanMode"}:
        if mode == "acceptAll" and tool == "ExitPlanMode":
            return Decision("allow", "Everything goes ahead in this mode.")
        return Decision("ask", "The agent wants a person's answer.")
    if allowed is not None and not listed:
        return Decision("deny", f"{tool} with this input is not among the allowed tools of this job.")
    if mode != "plan" and any(r.outcome == "approved" and matches(r.pattern, tool, tool_input) for r in rules):
        return Decision("allow", "A remembered rule allows it.")
    return _by_mode(tool, tool_input, mode, listed)


def _by_mode(tool: str, tool_input: Any, mode: Mode, listed: bool) -> Decision:
    if mode == "acceptAll":
        return Decision("allow", "Everything goes ahead in this mode.")
    if mode == "manual":
        return Decision("ask", "Every tool call is asked about in this mode.")
    kind = tools.kind(tool)
    path = tools.path(tool, tool_input)
    where = _where(tool, tool_input)
    harmless = kind == "think" or tool in {"ToolSearch", "BashOutput", "TaskOutput"}
    if harmless or (kind in {"read", "search"} and (where is not None or _here(tool, tool_input))):
        return Decision("allow", "It only reads inside the workspace.")
    if mode == "plan":
        if kind == "edit" and _is_plan_file(tool_input):
            return Decision("allow", "It is the agent's own plan file.")
        return Decision("deny", "Plan mode: nothing is changed or run until the plan is accepted.")
    if mode == "acceptEdits" and kind == "edit" and where is not None and not _PROTECTED.search(where):
        return Decision("allow", "Edits inside the workspace go ahead in this mode.")
    if listed:
        return Decision("allow", "It is among the allowed tools of this job.")
    if mode == "dontAsk":
        return Decision("deny", "Nothing is asked in this mode, and this would have to be.")
    return Decision("ask", _why(tool, kind, path, where))


def _is_plan_file(tool_input: Any) -> bool:
    if not isinstance(tool_input, dict):
        return False
    given = [tool_input[name] for name in tools.PATH_FIELDS if tool_input.get(name)]
    return len(given) == 1 and str(given[0]).startswith("/") and inside(str(given[0]), PLAN_FILES) is not None


def _why(tool: str, kind: str, path: str | None, where: str | None) -> str:
    if path is not None and where is None:
        return "It is outside the workspace."
    if kind == "edit":
        return "This file can make other programs run commands."
    if kind == "execute":
        return "It runs a command."
    if kind == "fetch":
        return "It reaches the network."
    if tool not in tools.KINDS:
        return "It is a tool that Pilothouse does not know."
    return "It is asked about in this mode."


def suggest(tool: str, tool_input: Any) -> Pattern | None:
    """The rule that "always" would remember for this call: as narrow as is still useful. None: only once is offered."""
    given = tool_input if isinstance(tool_input, dict) else {}
    if tool == "Bash":
        command = given.get("command")
        if not isinstance(command, str) or not command.strip() or len(command) > 900:
            return None
        if _SHELL_DOUBT.search(command):
            return Pattern("Bash", command)
        return Pattern("Bash", _prefix(command))
    if tool == "WebFetch":
        match = _URL.match(str(given.get("url", "")))
        return Pattern("WebFetch", f"domain:{match[1].lower()}") if match else None
    if tool in {"ExitPlanMode", "AskUserQuestion"} or not _PATTERN.match(tool):
        return None
    if tools.path(tool, given) is None and not any(given.get(name) for name in tools.PATH_FIELDS):
        return Pattern(tool) if _stays(tool, given) else None
    where = _where(tool, given)
    # A file whose name looks like a pattern would be remembered as one.
    narrow = where and where != "." and len(where) < 900 and not _GLOB & set(where)
    return Pattern(tool, where) if where and narrow else None


def _prefix(command: str) -> str:
    """The part of a plain command that says what it does; all of it when only all of it does."""
    words = command.split(" ")
    name = posixpath.basename(words[0])
    if not name or "=" in words[0] or runs_others(name):
        return command
    if name not in _WITH_SUBCOMMANDS:
        return f"{words[0]}:*"
    if len(words) > 1 and words[1] and not words[1].startswith("-"):
        return f"{words[0]} {words[1]}:*"
    return command
