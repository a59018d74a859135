"""Which calls need a second person: a doubt is a reason to ask one, never a way around."""

from __future__ import annotations

import pytest

from pilothouse.core import second
from pilothouse.core.errors import BadRequest, Forbidden


@pytest.mark.parametrize(
    ("rule", "command", "needs"),
    [
        ("Bash(git push:*)", "git push", True),
        ("Bash(git push:*)", "git push origin main", True),
        ("Bash(git push*)", "git push origin main", True),
        ("Bash(git push*)", "git  push", True),
        ("Bash(git push*)", "/usr/bin/git push", True),
        ("Bash(git push*)", "git pull", False),
        ("Bash(git push*)", "npm test", False),
        ("Bash(git push*)", "git commit -m 'x'", False),
        ("Bash(git push)", "git push origin", False),
        ("Bash(git push)", "git push", True),
        ("Bash(git push*)", "git -C /tmp push", True),
        ("Bash(git push*)", "npm test && git push", True),
        ("Bash(git push*)", "g\\it push", True),
        ("Bash(git push*)", 'git "push"', True),
        ("Bash(git push*)", "'git' push", True),
        ("Bash(git push*)", "$(echo git) push", True),
        ("Bash(git push*)", "env git push", True),
        ("Bash(git push*)", "sudo git push", True),
        ("Bash(git push*)", "A=1 git push", True),
        ("Bash(git push*)", "sh -c x", True),
        ("Bash(git push*)", "python3 x.py", True),
        ("Bash", "ls", True),
        ("Write", "ls", False),
    ],
)
def test_commands(rule: str, command: str, needs: bool) -> None:
    assert second.needed(second.patterns([rule]), "Bash", {"command": command}) is needs


@pytest.mark.parametrize("given", [None, [], {}, {"command": None}, {"command": ["git", "push"]}, {"command": ""}])
def test_a_call_whose_command_cannot_be_read_needs_one(given: object) -> None:
    assert second.needed(second.patterns(["Bash(git push*)"]), "Bash", given)


@pytest.mark.parametrize(
    ("path", "needs"),
    [("deploy/x.yaml", True), ("src/x.py", False), ("../../etc/passwd", True), ("~/x", True), (None, True)],
)
def test_files(path: object, needs: bool) -> None:
    rules = second.patterns(["Write(deploy/**)"])
    assert second.needed(rules, "Write", {"file_path": path}) is needs


def test_other_tools() -> None:
    rules = second.patterns(["WebFetch(domain:prod.example)", "mcp__cloud__delete", "mcp__cloud__make(x)", "network"])
    assert second.needed(rules, "WebFetch", {"url": "https://prod.example/x"})
    assert second.needed(rules, "WebFetch", {"url": "prod.example"})
    assert not second.needed(rules, "WebFetch", {"url": "https://test.example/x"})
    assert second.needed(rules, "mcp__cloud__delete", {})
    assert second.needed(rules, "mcp__cloud__make", {})
    assert second.needed(rules, "network", {"host": "x", "port": 1})
    assert not second.needed(rules, "mcp__cloud__list", {})


@pytest.mark.parametrize("entry", ["git push", "Bassh", "Bash(", ""])
def test_rules_that_could_never_match_are_refused(entry: str) -> None:
    with pytest.raises(BadRequest):
        second.patterns([entry])


def test_who_asked_does_not_approve_nor_does_nobody() -> None:
    second.check(["ann", "bob"], "cleo")
    for account in ("ann", "bob", ""):
        with pytest.raises(Forbidden) as refused:
            second.check(["ann", "bob"], account)
        assert refused.value.code == "second_approver"
