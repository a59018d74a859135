"""What a secret may be called, how long it may be, and where it counts: a value that shells and agents find in their
environment, or in a file, and that nobody else is shown."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from pilothouse.core.errors import BadRequest, TooLarge

NAME_MAX = 100
"""Characters of a name: far longer than any program asks for."""
VALUE_MAX = 16 * 1024
"""Bytes of a value: a key with its certificates, a kubeconfig."""
REACH_MAX = 50
"""Secrets that reach one session."""
TOTAL_MAX = 24 * 1024
"""Bytes of them together: with a command they have to fit into one message to whoever starts programs inside."""
DIRECTORY = "secrets"
"""Below `/run` of a session: in it a directory for each shell, in that a file for each secret that wants one."""

Where = Literal["session", "project", "account"]
WHERE: tuple[Where, ...] = ("account", "project", "session")
"""What comes later counts more: a session's own stands for an account's of the same name."""
For = Literal["shells", "agents", "both"]

_NAME = re.compile(rf"[A-Z][A-Z0-9_]{{0,{NAME_MAX - 1}}}\Z")
_PREFIXES = ("LD_", "DYLD_", "GLIBC_", "MALLOC_", "ANTHROPIC_", "CLAUDE_", "PILOTHOUSE_", "PYTHON", "BASH", "LC_")
_NAMES = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "PWD", "OLDPWD", "TMPDIR", "IFS", "ENV", "CDPATH",
    "SHELLOPTS", "PROMPT_COMMAND", "PS0", "PS1", "PS2", "PS4", "UID", "EUID", "PPID", "NODE_OPTIONS", "NODE_PATH",
    "PERL5LIB", "PERL5OPT", "RUBYLIB", "RUBYOPT", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "GIT_SSH", "GIT_SSH_COMMAND", "GIT_EXEC_PATH",
    "GCONV_PATH", "LOCPATH", "NLSPATH", "TERMINFO", "HOSTALIASES", "DISABLE_TELEMETRY", "DISABLE_AUTOUPDATER",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Given:
    """A secret as a shell or an agent is given it."""

    name: str
    value: str = field(repr=False)
    use: For = "shells"
    file: bool = False
    """In a file, whose path is in NAME_FILE; else in the environment."""

    @property
    def shells(self) -> bool:
        return self.use != "agents"

    @property
    def agents(self) -> bool:
        return self.use != "shells"


def check_name(name: str) -> str:
    """Raises BadRequest."""
    if not _NAME.match(name):
        raise BadRequest(f"name: {name[:NAME_MAX]!r} is no name: A-Z, 0-9 and _, a letter first, at most {NAME_MAX}")
    prefix = next((p for p in _PREFIXES if name.startswith(p)), "")
    if prefix or name in _NAMES:
        what = f"names that begin with {prefix}" if prefix else name
        raise BadRequest(f"name: {what} may not be set: programs and sessions are steered by it")
    return name


def check_value(value: str) -> str:
    """Raises BadRequest, TooLarge. None of it is in their words."""
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise BadRequest("value: it is no text in UTF-8") from None
    if size == 0:
        raise BadRequest("value: it is empty")
    if size > VALUE_MAX:
        raise TooLarge(f"value: {size} bytes, at most {VALUE_MAX}")
    if "\0" in value:
        raise BadRequest("value: it has a NUL character, which no environment can hold")
    return value


def check_use(use: str) -> For:
    """Raises BadRequest."""
    for known in ("shells", "agents", "both"):
        if use == known:
            return known
    raise BadRequest(f"for: {use[:50]!r} is none of shells, agents, both")
