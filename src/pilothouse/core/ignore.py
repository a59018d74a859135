"""Which files are left out: the rules of `.gitignore` files, as git reads them.

    #text       a comment            !RULE   takes back what a rule before it left out
    name        at any depth         /name, a/name   at that place alone
    name/       directories alone    * ? [a-z]       within one name      **   any number of directories

A deeper file wins over a higher one, the last matching line over those before it; what lies in a directory that is left
out stays out. Both text and names are hostile: a rule is matched in time that grows with the length of the name, not
with what its stars could mean (each piece between two stars is an atomic group), and rules are counted.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SIZE_MAX = 64 * 1024
"""Bytes of one file of rules that are read."""
RULES_MAX = 500
"""Rules of one file; large projects have a hundred."""
_CLASSES = {
    "alnum": "a-zA-Z0-9", "alpha": "a-zA-Z", "blank": " \\t", "cntrl": "\\x00-\\x1f\\x7f", "digit": "0-9",
    "graph": "!-~", "lower": "a-z", "print": " -~", "punct": "!-/:-@\\[-`{-~", "space": "\\s", "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}  # fmt: skip
_STAR = ""
"""Among the pieces of a name."""


class _Never(Exception):
    """A rule that git matches with nothing: an open bracket, a last backslash."""


@dataclass(frozen=True, slots=True)
class Rule:
    out: bool
    directories: bool
    """Of directories alone."""
    names: tuple[re.Pattern[str] | None, ...]
    """One for each name of the path; None stands for any number of directories."""
    anywhere: bool
    """The last name of a path decides."""

    def matches(self, parts: Sequence[str], directory: bool) -> bool:
        if self.directories and not directory:
            return False
        if self.anywhere:
            name = self.names[0]
            return name is not None and name.match(parts[-1]) is not None
        return _match(self.names, parts)


def _match(names: Sequence[re.Pattern[str] | None], parts: Sequence[str]) -> bool:
    """As a glob over names: after a failure only the last `**` takes one more. The last one of all takes at least
    one."""
    at = part = 0
    again: tuple[int, int] | None = None
    while part < len(parts):
        name = names[at] if at < len(names) else None
        if at < len(names) and name is None:
            if at + 1 == len(names):
                return True
            again = (at + 1, part)
            at += 1
        elif name is not None and name.match(parts[part]):
            at, part = at + 1, part + 1
        elif again is not None:
            again = (again[0], again[1] + 1)
            at, part = again
        else:
            return False
    return at == len(names)


def parse(text: str) -> list[Rule]:
    """The rules of one file, at most `RULES_MAX`."""
    found: list[Rule] = []
    for line in text.removeprefix("\ufeff").split("\n"):
        if len(found) == RULES_MAX:
            break
        rule = _rule(line.removesuffix("\r"))
        if rule is not None:
            found.append(rule)
    return found


def _rule(line: str) -> Rule | None:
    if line.startswith("#"):
        return None
    line = _unspaced(line)
    out = not line.startswith("!")
    if not out:
        line = line[1:]
    directories = line.endswith("/")
    line = line.removesuffix("/")
    if not line:
        return None
    anywhere = "/" not in line
    try:
        names = _names(line.removeprefix("/") if not anywhere else line, anywhere)
    except _Never:
        return None
    return Rule(out, directories, tuple(names), anywhere) if names else None


def _unspaced(line: str) -> str:
    """Without the spaces at its end, but one that is escaped."""
    stripped = line.rstrip(" ")
    slashes = len(stripped) - len(stripped.rstrip("\\"))
    return stripped + " " if slashes % 2 and stripped != line else stripped


def _names(line: str, anywhere: bool) -> list[re.Pattern[str] | None]:
    names: list[re.Pattern[str] | None] = []
    for pieces in _split(line):
        stars = sum(piece == _STAR for piece in pieces)
        if not anywhere and stars >= 2 and stars == len(pieces):
            if not names or names[-1] is not None:
                names.append(None)
        else:
            names.append(_compiled(pieces))
    return names


def _split(line: str) -> list[list[str]]:
    """The pieces of each name: an expression for one character, or a star."""
    names: list[list[str]] = [[]]
    at = 0
    while at < len(line):
        sign = line[at]
        if sign == "/":
            names.append([])
        elif sign == "*":
            names[-1].append(_STAR)
        elif sign == "?":
            names[-1].append(".")
        elif sign == "[":
            piece, at = _bracket(line, at + 1)
            names[-1].append(piece)
            continue
        else:
            if sign == "\\":
                at += 1
                if at == len(line):
                    raise _Never
                sign = line[at]
            names[-1].append(re.escape(sign))
        at += 1
    return names


def _bracket(line: str, at: int) -> tuple[str, int]:
    """The class that begins at `at`, and where it has ended."""
    negated = line[at : at + 1] in {"!", "^"}
    at += negated
    body, first = "", True
    while True:
        sign = line[at : at + 1]
        if not sign:
            raise _Never
        if sign == "]" and not first:
            break
        first = False
        if line.startswith("[:", at) and (end := line.find(":]", at)) > 0:
            if line[at + 2 : end] not in _CLASSES:
                raise _Never
            body += _CLASSES[line[at + 2 : end]]
            at = end + 2
            continue
        low, at = _one(line, at)
        if line[at : at + 1] == "-" and line[at + 1 : at + 2] not in {"", "]"}:
            high, at = _one(line, at + 1)
            body += f"{re.escape(low)}-{re.escape(high)}" if low <= high else ""
        else:
            body += re.escape(low)
    if not body:
        return ("." if negated else "(?!)"), at + 1
    return f"[{'^' * negated}{body}]", at + 1


def _one(line: str, at: int) -> tuple[str, int]:
    if line[at] == "\\":
        at += 1
    if at >= len(line):
        raise _Never
    return line[at], at + 1


def _compiled(pieces: Sequence[str]) -> re.Pattern[str]:
    """What lies between two stars is of one length, so the first place where it fits is as good as any."""
    runs: list[str] = [""]
    starred = False
    for piece in pieces:
        if piece != _STAR:
            runs[-1] += piece
        elif runs[-1] or not starred:
            runs.append("")
        starred = starred or piece == _STAR
    if not starred:
        return re.compile(f"{runs[0]}\\Z", re.DOTALL)
    first, *middle, last = runs
    inner = "".join(f"(?>.*?{run})" for run in middle if run)
    return re.compile(f"{first}{inner}.*{last}\\Z", re.DOTALL)


class Ignore:
    """The rules of a workspace. `files`: by the directory in which they stand ("" is the top); `over`: rules that win
    over all of those."""

    def __init__(self, files: Mapping[str, Sequence[Rule]], over: Sequence[Rule] = ()) -> None:
        self._files = files
        self._over = over
        self._known: dict[str, bool] = {"": False}

    def leaves_out(self, path: str) -> bool:
        """Of a file, relative to the workspace."""
        above, _, _ = path.rpartition("/")
        return self._directory(above) or self._says(path, directory=False)

    def _directory(self, path: str) -> bool:
        known = self._known.get(path)
        if known is None:
            above = path.rpartition("/")[0]
            known = self._known[path] = self._directory(above) or self._says(path, directory=True)
        return known

    def _says(self, path: str, *, directory: bool) -> bool:
        parts = path.split("/")
        said = _last(self._over, parts, directory)
        for depth in range(len(parts) - 1, -1, -1):
            if said is not None:
                break
            rules = self._files.get("/".join(parts[:depth]))
            if rules:
                said = _last(rules, parts[depth:], directory)
        return bool(said)


def _last(rules: Sequence[Rule], parts: Sequence[str], directory: bool) -> bool | None:
    """What the last rule that matches says: out, or not. None: no rule matches."""
    return next((rule.out for rule in reversed(rules) if rule.matches(parts, directory)), None)
