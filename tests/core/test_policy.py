"""The policy as a table, and the calls that once were, or might be, taken for something they are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core import policy, tools
from pilothouse.core.errors import BadRequest
from pilothouse.core.policy import Pattern, Rule, decide, inside, matches, suggest

READ = ("Read", {"file_path": "/workspace/a.py"})
READ_OUT = ("Read", {"file_path": "/etc/passwd"})
SEARCH = ("Grep", {"pattern": "x"})
EDIT = ("Write", {"file_path": "a.py", "content": ""})
EDIT_OUT = ("Write", {"file_path": "/home/agent/a.py", "content": ""})
HOOK = ("Edit", {"file_path": "/workspace/.git/hooks/pre-commit"})
TODO: tuple[str, Any] = ("TodoWrite", {"todos": []})
BASH = ("Bash", {"command": "ls"})
FETCH = ("WebFetch", {"url": "https://example.com"})
UNKNOWN: tuple[str, Any] = ("Frobnicate", {})
PLAN = ("ExitPlanMode", {"plan": "x"})
QUESTION: tuple[str, Any] = ("AskUserQuestion", {"questions": []})

TABLE: dict[str, dict[str, list[tuple[str, Any]]]] = {
    "acceptAll": {"allow": [READ, READ_OUT, SEARCH, EDIT, EDIT_OUT, HOOK, TODO, BASH, FETCH, UNKNOWN, PLAN],
                  "ask": [QUESTION]},
    "acceptEdits": {"allow": [READ, SEARCH, EDIT, TODO],
                    "ask": [READ_OUT, EDIT_OUT, HOOK, BASH, FETCH, UNKNOWN, PLAN, QUESTION]},
    "manual": {"ask": [READ, READ_OUT, SEARCH, EDIT, EDIT_OUT, HOOK, TODO, BASH, FETCH, UNKNOWN, PLAN, QUESTION]},
    "plan": {"allow": [READ, SEARCH, TODO], "deny": [READ_OUT, EDIT, EDIT_OUT, HOOK, BASH, FETCH, UNKNOWN],
             "ask": [PLAN, QUESTION]},
    "dontAsk": {"allow": [READ, SEARCH, TODO], "deny": [READ_OUT, EDIT, EDIT_OUT, HOOK, BASH, FETCH, UNKNOWN],
                "ask": [PLAN, QUESTION]},
}  # fmt: skip
CASES = [(m, v, call) for m, row in TABLE.items() for v, calls in row.items() for call in calls]


@pytest.mark.parametrize(("mode", "verdict", "call"), CASES, ids=lambda c: c if isinstance(c, str) else c[0])
def test_the_table(mode: policy.Mode, verdict: str, call: tuple[str, Any]) -> None:
    assert decide(*call, mode=mode).verdict == verdict


def test_planning_allows_no_edit_by_a_relative_path() -> None:
    """Relative paths are of the workspace; they once were taken for ones of the plan's own directory."""
    assert decide("Write", {"file_path": "a.txt", "content": ""}, mode="plan").verdict == "deny"
    plan = {"file_path": f"{policy.PLAN_FILES}/p.md"}
    assert decide("Write", plan, mode="plan").verdict == "allow"
    assert decide("Write", {"file_path": f"{policy.PLAN_FILES}/../x.md"}, mode="plan").verdict == "deny"
    assert decide("Edit", None, mode="plan").verdict == "deny"


@pytest.mark.parametrize("path", [
    "/etc/passwd", "../etc/passwd", "/workspace/../etc", "/workspace/a/../../etc", "/workspacex/a", "/Workspace/a",
    "//workspace/a", "~/.ssh/id_ed25519", "~root/x", "~", " /etc/passwd", "/etc/passwd ", "\t/etc/passwd",
    "\u00a0/etc/passwd", "\ufeff/etc/passwd", "\u2003~/x", "/workspace/a\x00", "/proc/self/environ",
    "/workspace/./../proc/1/mem",
])  # fmt: skip
def test_a_path_outside_is_never_taken_for_one_inside(path: str) -> None:
    """The agents' tools expand a leading `~` and drop white space around a path."""
    assert inside(path) is None
    for tool, name in (("Read", "file_path"), ("Write", "file_path"), ("Glob", "path"), ("Grep", "path"),
                       ("NotebookEdit", "notebook_path"), ("LS", "path")):  # fmt: skip
        assert decide(tool, {name: path, "pattern": "x"}, mode="acceptEdits").verdict == "ask"


@pytest.mark.parametrize("path", ["a", "./a", "/workspace", "/workspace/a b", "a/../b", "a~", ".../x", "é"])
def test_a_path_inside_is_one(path: str) -> None:
    assert inside(path) is not None
    assert decide("Read", {"file_path": path}, mode="acceptEdits").verdict == "allow"


@pytest.mark.parametrize("glob", [
    "/etc/**", "../**", "a/../../etc/*", "~/.ssh/*", "{/etc,/root}/*", "{a,/etc}/*", "{a,..}/*", "\\/etc/*",
    " /etc/*", "/**", "/workspace/../etc/*",
])  # fmt: skip
def test_a_glob_leaves_the_workspace_by_its_pattern_too(glob: str) -> None:
    assert decide("Glob", {"pattern": glob}, mode="acceptEdits").verdict == "ask"
    assert decide("Glob", {"pattern": glob, "path": "/workspace"}, mode="acceptEdits").verdict == "ask"
    assert decide("Glob", {"pattern": glob}, mode="plan").verdict == "deny"
    assert suggest("Glob", {"pattern": glob}) is None


@pytest.mark.parametrize("glob", ["**/*.py", "src/**", "/workspace/src/*.ts", "*.{js,ts}", "[a-z]*", "**"])
def test_a_glob_inside_goes_ahead(glob: str) -> None:
    assert decide("Glob", {"pattern": glob}, mode="acceptEdits").verdict == "allow"


@pytest.mark.parametrize("input", [
    {"file_path": "/workspace/a", "notebook_path": "/etc/x"},
    {"file_path": "/workspace/a", "path": "/etc"},
    {"path": ["/etc"]}, {"path": {"a": 1}}, {"file_path": 7}, [], "x", None, 5,
])  # fmt: skip
def test_several_paths_or_none_that_can_be_read_are_asked_about(input: Any) -> None:
    for tool in ("Read", "NotebookEdit", "Grep", "Write"):
        assert decide(tool, input, mode="acceptEdits").verdict == "ask"


@pytest.mark.parametrize("path", [
    ".git/hooks/pre-commit", "sub/.git/config", ".claude/settings.json", ".mcp.json", ".bashrc", ".bash_profile",
    ".bash_aliases", ".zshenv", ".gitconfig", ".envrc", ".npmrc", ".husky/pre-commit", "a/../.git/config",
    ".vscode/tasks.json", ".gitmodules",
])  # fmt: skip
def test_files_that_make_others_run_commands_are_asked_about(path: str) -> None:
    assert decide("Write", {"file_path": path}, mode="acceptEdits").verdict == "ask"
    assert decide("Read", {"file_path": path}, mode="acceptEdits").verdict == "allow"


BYPASSES = [
    "npm test; rm -rf /", "npm test && rm x", "npm test || rm x", "npm test | sh", "npm test & rm x",
    "npm test\nrm x", "npm test\rrm x", "npm test $(rm x)", "npm test `rm x`", "npm test > /etc/x", "npm test < x",
    "npm test <(rm x)", "npm test ${IFS}x", "npm test $X", "npm test {a,b}", "npm test *", "npm test ?", "npm test [a]",
    "npm test \\\nrm", "npm test #x", "npm test !x", "npm test ~x", "npm test\x00rm", "FOO=1 npm test", "npm  test",
    "npm\ttest", "npm\u00a0test x", " npm test", "env npm test", "sudo npm test", "npm testx", "NPM test",
    "npm -g test", "npm test\u2028;rm x", "'npm' test", "npm test (x)", "\nnpm test",
]  # fmt: skip


@pytest.mark.parametrize("command", BYPASSES)
def test_c20_a_remembered_prefix_does_not_let_a_longer_story_through(command: str) -> None:
    rules = [Rule(policy.pattern("Bash(npm test:*)"), "approved")]
    assert decide("Bash", {"command": command}, mode="acceptEdits", rules=rules).verdict == "ask"
    allowed = policy.allowed_tools(["Bash(npm test:*)"])
    assert decide("Bash", {"command": command}, mode="dontAsk", allowed=allowed).verdict == "deny"


def test_a_remembered_prefix_lets_its_own_commands_through() -> None:
    rules = [Rule(policy.pattern("Bash(npm test:*)"), "approved")]
    for command in ("npm test", "npm test -- --watch", "npm test 'a b'"):
        assert decide("Bash", {"command": command}, mode="manual", rules=rules).verdict == "allow"
        assert decide("Bash", {"command": command}, mode="plan", rules=rules).verdict == "deny"


def test_an_empty_prefix_is_no_prefix() -> None:
    for command in ("", " rm x", "rm x"):
        assert not matches(Pattern("Bash", ":*"), "Bash", {"command": command})
        assert not matches(Pattern("Bash", " :*"), "Bash", {"command": command})


@pytest.mark.parametrize(("command", "spec"), [
    ("ls -la", "ls:*"), ("git status", "git status:*"), ("npm run build", "npm run:*"),
    ("git -c core.pager=evil log", "git -c core.pager=evil log"), ("git", "git"),
    ("bash -c 'rm x'", "bash -c 'rm x'"), ("/bin/sh x", "/bin/sh x"), ("sudo rm x", "sudo rm x"),
    ("env A=1 rm x", "env A=1 rm x"), ("A=1 rm x", "A=1 rm x"), ("python3 x.py", "python3 x.py"),
    ("python3.11 -c 'x'", "python3.11 -c 'x'"), ("timeout 5 rm x", "timeout 5 rm x"), ("a; b", "a; b"),
    ("find . -delete", "find . -delete"), (" ls", " ls"),
])  # fmt: skip
def test_always_remembers_no_more_than_what_was_shown(command: str, spec: str) -> None:
    """What runs whatever its arguments say is remembered as the exact command."""
    assert suggest("Bash", {"command": command}) == Pattern("Bash", spec)


def test_a_file_named_like_a_pattern_is_not_remembered_as_one() -> None:
    for name in ("*", "src/**", "a[0-9]", "?", "{a,b}"):
        assert suggest("Write", {"file_path": name}) is None
    assert suggest("Write", {"file_path": "src/a.py"}) == Pattern("Write", "src/a.py")
    assert suggest("Write", {"file_path": "/etc/a"}) is None


@pytest.mark.parametrize(("url", "matched"), [
    ("https://docs.example.com/x", True), ("http://DOCS.example.com:80", True), ("https://docs.example.com", True),
    ("https://docs.example.com.evil.io/", False), ("https://docs.example.com@evil.io/", False),
    ("https://docs.example.com\\@evil.io/", False), ("https://evil.io/?https://docs.example.com", False),
    (" https://docs.example.com", False), ("ftp://docs.example.com/", False),
    ("https://docs.example.com\t.evil.io", False),
    ("https://xdocs.example.com/", False), (7, False), (None, False),
])  # fmt: skip
def test_a_domain_rule_is_about_the_host(url: object, matched: bool) -> None:
    assert matches(Pattern("WebFetch", "domain:docs.example.com"), "WebFetch", {"url": url}) is matched


def test_a_domain_that_the_url_only_pretends_is_not_offered() -> None:
    assert suggest("WebFetch", {"url": "https://good.example@evil.io/"}) is None
    assert suggest("WebFetch", {"url": "https://Good.example/x"}) == Pattern("WebFetch", "domain:good.example")


@pytest.mark.parametrize(("spec", "path", "matched"), [
    ("src/**", "src/a/b.py", True), ("src/**", "srcx/a", False), ("src/**", "src/../a", False),
    ("*.py", "a.py", True), ("*.py", "src/a.py", False), ("./a.py", "/workspace/a.py", True),
    ("src/**", "/etc/src/a", False), ("src/**", "~/src/a", False),
])  # fmt: skip
def test_path_patterns_are_below_the_workspace(spec: str, path: str, matched: bool) -> None:
    assert matches(Pattern("Edit", spec), "Edit", {"file_path": path}) is matched


def test_deny_rules_come_first_and_unlisted_tools_are_denied() -> None:
    deny = [Rule(Pattern("Bash"), "denied"), Rule(Pattern("Bash"), "approved")]
    assert decide(*BASH, mode="acceptAll", rules=deny).verdict == "deny"
    allowed = policy.allowed_tools(["Read"])
    assert decide(*BASH, mode="acceptAll", allowed=allowed).verdict == "deny"
    assert decide(*READ, mode="acceptAll", allowed=allowed).verdict == "allow"
    assert decide(*BASH, mode="acceptAll", allowed=()).verdict == "deny"


def test_older_names_stand_for_their_successors_and_unknown_ones_are_named() -> None:
    names = {p.tool for p in policy.allowed_tools(["Replace", "Search", "List", "Task", "mcp__x__y"])}
    assert names == {"Edit", "Grep", "Glob", "LS", "Agent", "mcp__x__y"}
    for bad in (["Nope"], ["Bash("], [""], ["Bash()"], ["1"], [" ; "], ["Bash(x)y"], ["Read"] * 101):
        with pytest.raises(BadRequest):
            policy.allowed_tools(bad)


def test_an_unknown_mode_is_named() -> None:
    with pytest.raises(BadRequest, match="yolo"):
        policy.mode("yolo")
    assert policy.mode("default") == "manual"
    assert policy.mode("bypassPermissions") == "acceptAll"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda kids: st.lists(kids, max_size=3) | st.dictionaries(st.text(max_size=10), kids, max_size=3),
    max_leaves=10,
)
NAMES = st.sampled_from([*tools.KINDS, "mcp__a__b", "read", "Bash ", ""]) | st.text(max_size=10)
FIELDS = st.fixed_dictionaries({}, optional={
    "file_path": JSON, "notebook_path": JSON, "path": JSON, "command": JSON, "url": JSON, "pattern": JSON,
})  # fmt: skip


@given(tool=NAMES, input=JSON | FIELDS, mode=st.sampled_from(sorted(set(policy.MODES.values()))))
def test_nothing_that_an_agent_says_breaks_the_policy(tool: str, input: Any, mode: policy.Mode) -> None:
    rules = [Rule(policy.pattern("Bash(npm test:*)"), "approved"), Rule(Pattern("Edit", "src/**"), "denied")]
    decision = decide(tool, input, mode=mode, rules=rules, allowed=None)
    assert decision.verdict in {"allow", "ask", "deny"}
    assert decision.reason
    if mode == "manual":
        assert decision.verdict == "ask"
    rule = suggest(tool, input)
    if rule is not None:
        assert matches(policy.pattern(str(rule)), tool, input), "what was approved for ever must hold for this call"
