"""Transcripts: events in, what stands on the terminal out."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.cli.render import Transcript
from pilothouse.cli.style import Style
from pilothouse.core import events as ev

ONE = {"job_id": "j", "session_id": "s"}


def shown(*events: ev.LogEvent, color: bool = False, **options: Any) -> str:
    transcript = Transcript(Style(color), **options)
    return "".join(transcript.feed(event) for event in events) + transcript.end_line()


def stream(content: str, message: str = "m") -> ev.Stream:
    return ev.Stream(content=content, message_id=message)


def complete(outcome: ev.Outcome = "succeeded", **fields: Any) -> ev.Complete:
    given: dict[str, Any] = {
        "result": "the result",
        "total_cost": 0.0123,
        "duration_ms": 2500,
        "num_turns": 3,
        **fields,
    }
    return ev.Complete(outcome=outcome, **given)


def test_a_whole_job() -> None:
    diff = [ev.Diff(path="app.py", kind="edit", patch="@@ -1 +1 @@\n-a\n+b\n")]
    assert (
        shown(
            ev.SessionEvent(session_id="s1", agent="claude", isolation="namespaces"),
            ev.Chat(message="fix it\nplease", by="Ann"),
            ev.JobStarted(
                agent="claude", agent_version="2.1", model="m", demo=True, permission_mode="acceptEdits", by="Ann"
            ),
            ev.Thinking(content="Hm.", message_id="t"),
            stream("I will "),
            stream("look."),
            ev.ToolUse(tool="Bash", tool_id="1", input={"command": "ls\n-l"}, kind="execute"),
            ev.ToolResult(tool_id="1", result="no\nsuch", is_error=True),
            ev.ToolUse(tool="Edit", tool_id="2", input={"file_path": "app.py"}, kind="edit", parent_tool_id="1"),
            ev.ToolResult(tool_id="2", result="ok", is_error=False, diff=diff),
            ev.Plan(entries=[ev.PlanEntry(content="test", status="completed")]),
            stream("Done.\n", "n"),
            ev.Artifact(artifact_id="a", path="app.py", size=1500, sha256="0", url="u"),
            complete(),
        )
        == """\
session s1 · claude · isolation: namespaces
Ann> fix it
  please
claude 2.1 · m · acceptEdits
DEMO MODEL: scripted answers, no real model is connected
Hm.
I will look.
● Bash ls -l
  Bash failed
    no
    such
  ● Edit app.py
edit app.py
@@ -1 +1 @@
-a
+b
  [x] test
Done.
+ app.py (1.5 kB)
succeeded · 3 turns · 2.5 s · $0.0123
"""
    )


def test_a_result_that_was_never_streamed_is_shown_once() -> None:
    assert shown(complete()).startswith("the result\n")
    assert "the result" not in shown(stream("text"), complete())


def result(words: str, is_error: bool = False, color: bool = False) -> list[str]:
    return shown(ev.ToolResult(tool_id="1", result=words, is_error=is_error), color=color).splitlines()


def test_the_start_of_a_result() -> None:
    assert result("") == result("\n \n") == []
    assert result("\n  a\n\nb\n") == ["      a", "    ", "    b"]
    assert result("1\n2\n3\n4\n5") == ["    1", "    2", "    3", "    4", "    5"]
    assert result("1\n2\n3\n4\n5\n6\n")[4:] == ["    5", "    … 1 more line"]
    assert result("x\n" * 50)[-1] == "    … 45 more lines"
    assert result("x", color=True) == ["\x1b[2m    x\x1b[0m"]


def test_an_error_is_shown_in_whole_lines() -> None:
    long = "e" * 300
    assert result(f"{long}\nmore", is_error=True)[-2:] == [f"    {long}", "    more"]
    assert result("x\n" * 7, is_error=True, color=True)[-1] == "\x1b[31m    … 2 more lines\x1b[0m"
    assert len(result("x" * 100_000, is_error=True)[-1]) == 1004


def test_a_failure_gives_its_reason_in_words() -> None:
    failed = complete("failed", reason="unavailable", result="No key is set.\nAdd one.", num_turns=1)
    assert shown(failed).startswith("No key is set.\nAdd one.\nfailed (unavailable) · 1 turn ·")
    assert shown(stream("text"), failed).startswith("text\nNo key is set.")


def test_a_failure_without_words_gives_its_name() -> None:
    assert shown(complete("failed", reason="runner_lost", result="")).startswith("runner_lost\nfailed · 3 turns")


def test_what_was_said_before_an_interruption_is_not_repeated() -> None:
    cut = complete("interrupted", reason="interrupted", result="one two")
    assert shown(stream("one "), stream("two"), cut).startswith("one two\ninterrupted · ")


def test_an_interruption_is_said_once() -> None:
    assert shown(complete("interrupted", reason="interrupted", result="")).count("interrupted") == 1


def test_a_cut_answer_is_said() -> None:
    assert shown(stream("Hel"), ev.StreamReset(message_id="m"), stream("Hello")) == (
        "Hel\n(the answer was cut; it is being made again)\nHello\n"
    )


def test_an_approval_is_named_by_its_whole_id() -> None:
    asked = ev.ApprovalRequired(
        approval_id="a" * 36, tool_id="t", tool="Bash", input={}, input_hash="h", options=[], reason="because " * 20
    )
    line = shown(asked)
    assert line.startswith("? approval needed: Bash: because")
    assert line.endswith(f"… ({'a' * 36})\n")
    assert len(line) <= 101


def test_who_decided() -> None:
    resolved = ev.ApprovalResolved(approval_id="a", outcome="denied", by="Ann", message="no")
    assert shown(resolved) == "  denied by Ann: no\n"
    assert "with changed input" in shown(
        ev.ApprovalResolved(approval_id="a", outcome="approved", by="Ann", updated_input={})
    )


def test_missing_isolation_is_loud() -> None:
    assert "not fully separated" in shown(ev.SessionEvent(session_id="s", agent="a", isolation="none"))


def test_a_new_title_is_no_news_and_another_isolation_is() -> None:
    first = ev.SessionEvent(session_id="s", agent="a", isolation="namespaces")
    titled = ev.SessionEvent(session_id="s", agent="a", isolation="namespaces", title="T")
    other = ev.SessionEvent(session_id="s", agent="a", isolation="reduced", title="T")
    assert shown(first, titled) == shown(first)
    assert "reduced" in shown(first, other)


def test_colours_only_when_asked() -> None:
    assert "\x1b[32m+b" in Style(True).diff([ev.Diff(path="p", kind="edit", patch="+b")])
    assert "\x1b" not in shown(stream("x"), complete())


hostile = st.text(st.sampled_from("ab\x1b[]0;\r\n\x9b\u202e\u200f"), max_size=20)


@given(hostile, hostile)
def test_c22_nothing_an_agent_says_reaches_the_terminal_raw(one: str, two: str) -> None:
    out = shown(
        stream(one),
        ev.Thinking(content=two, message_id=one),
        ev.ToolUse(tool=one, tool_id=two, input={"command": two}, kind="other", title=one),
        ev.ToolResult(tool_id=two, result=one, is_error=True, diff=[ev.Diff(path=one, kind="add", patch=two)]),
        ev.ErrorEvent(code=one, message=two),
        ev.Artifact(artifact_id="a", path=one, size=1, sha256="0", url="u"),
        ev.Custom(name=one, data=None, by=two),
        ev.Chat(message=one, by=two),
        ev.SessionEvent(session_id=one, agent=two, isolation="none", title=one),
        ev.JobStarted(agent=one, agent_version=two, model=one, demo=False, permission_mode=two, by=one),
        ev.Retry(attempt=1, of=2, delay_ms=3, reason=one),
        ev.Plan(entries=[ev.PlanEntry(content=one, status="pending")]),
        complete("failed", reason=one, result=two),
        ev.ApprovalRequired(approval_id=one, tool_id=two, tool=one, input=two, input_hash="h", options=[], reason=two),
        ev.ApprovalResolved(approval_id=one, outcome="denied", by=two, message=one),
        ev.QuestionEvent(question_id=one, questions=[ev.Question(question=two)]),
        ev.QuestionAnswered(question_id=one, answers={one: two}, by=one, outcome="answered"),
    )
    assert not set(out) & set("\x1b\r\x9b\u202e\u200f")
