"""What a hostile runner says: cleaned or broken, never an exception, never without bounds."""

from __future__ import annotations

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.core import events as ev
from pilothouse.core import link
from pilothouse.core.said import LIST_MAX, NAME_MAX, TEXT_MAX, clean, shallow

WORDS = st.text(max_size=30) | st.sampled_from(["x" * 300, "é" * 70_000, "\x00", "a b"])
IDS = st.sampled_from(["m1", "", "x" * 201, "a b", "é", "../..", "\x00"])
COUNTS = st.sampled_from([0, 1, -1, 2**53, 2**53 + 1, 2**63, 2**64, 10**100, 1.5, None, "1", True])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | WORDS,
    lambda kids: st.lists(kids, max_size=3) | st.dictionaries(st.text(max_size=5), kids, max_size=3),
    max_leaves=8,
)
KINDS = [
    "thinking", "stream", "stream_reset", "retry", "plan", "tool_use", "tool_output", "tool_result", "session_update",
    "error", "agent_usage", "permission_ask", "question_ask", "ask_cancelled", "turn_started", "turn_ended",
    "complete", "approval_resolved", "job_started", "chat", "usage", "nonsense",
]  # fmt: skip
FIELDS = {
    **dict.fromkeys(["messageId", "toolId", "parentToolId", "requestId", "turnId"], IDS),
    **dict.fromkeys(["content", "result", "tool", "title", "code", "message", "reason", "claudeSessionId"], WORDS),
    **dict.fromkeys(["attempt", "of", "delayMs", "numTurns", "durationMs", "inputTokens", "seq", "from"], COUNTS),
    **dict.fromkeys(["input", "suggestions", "entries", "commands", "diff", "questions", "locations", "context"], JSON),
    "isError": st.booleans() | JSON,
    "kind": st.sampled_from(["read", "edit", "nope", 1]),
    "outcome": st.sampled_from(["succeeded", "failed", "maybe", None]),
    "sessionId": WORDS, "jobId": WORDS, "at": WORDS, "truncated": JSON, "totalCost": st.floats() | JSON,
}  # fmt: skip


@st.composite
def sayings(draw: st.DrawFn) -> bytes:
    said: dict[str, object] = {"type": draw(st.sampled_from(KINDS))}
    for name in draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=len(FIELDS), unique=True)):
        said[name] = draw(FIELDS[name])
    return msgspec.json.encode(said)


@given(raw=sayings() | st.binary(max_size=200))
@settings(max_examples=300)
def test_whatever_a_runner_says_is_an_event_of_its_own_or_broken(raw: bytes) -> None:
    parsed = link.parse_event(raw)
    if isinstance(parsed, link.Broken):
        return
    said = clean(parsed)
    if isinstance(said, link.Broken):
        return
    assert not isinstance(said, ev.Complete | ev.ApprovalResolved | ev.JobStarted | ev.Chat | ev.Usage)
    assert (said.session_id, said.job_id, said.at, said.seq, said.truncated) == ("", None, "", 0, None)
    assert msgspec.json.encode(said), "it can be written down"


def test_the_envelope_is_the_servers() -> None:
    lie = ev.Stream(content="x", message_id="m", session_id="other", job_id="j", at="then", seq=9, from_=3,
                    truncated={"content": ev.Cut(size=1, url="https://evil.example")})  # fmt: skip
    said = clean(lie)
    assert said == ev.Stream(content="x", message_id="m")


def test_names_texts_and_lists_are_bounded() -> None:
    long = "x" * 100_000
    use = clean(ev.ToolUse(tool=long, tool_id="t", input={}, kind="read", title=long,
                           locations=[ev.Location(path=long)] * 1000))  # fmt: skip
    assert isinstance(use, ev.ToolUse)
    assert len(use.tool) == len(use.title or "") == NAME_MAX
    assert use.locations is not None
    assert (len(use.locations), len(use.locations[0].path)) == (LIST_MAX, TEXT_MAX)
    update = clean(ev.SessionUpdate(commands=[long]))
    assert isinstance(update, ev.SessionUpdate)
    assert len((update.commands or [""])[0]) == TEXT_MAX
    retry = clean(ev.Retry(attempt=1, of=2, delay_ms=3, reason=long))
    assert isinstance(retry, ev.Retry)
    assert len(retry.reason) == TEXT_MAX
    ended = clean(link.TurnEnded(turn_id="t", outcome="failed", result=long, num_turns=1, duration_ms=1, reason=long))
    assert isinstance(ended, link.TurnEnded)
    assert len(ended.reason or "") == TEXT_MAX
    assert ended.result == long, "cut with its whole kept, elsewhere"


def test_questions_longer_than_a_person_reads_are_refused() -> None:
    question = ev.Question(question="x" * 5000, options=[ev.Choice(label="y" * 5000)])
    assert isinstance(clean(link.QuestionAsk(request_id="r", questions=[question] * 100)), link.Broken)
    assert isinstance(clean(link.QuestionAsk(request_id="r", questions=[question])), link.QuestionAsk)


def test_counts_beyond_what_a_number_holds_are_refused() -> None:
    for count in (b"-1", b"9007199254740993", b"18446744073709551616", b"1e400", b"1.5", b"true"):
        assert isinstance(link.parse_event(b'{"type":"agent_usage","inputTokens":%b}' % count), link.Broken)
        assert isinstance(link.parse_runner(b'{"n":%b,"ev":{}}' % count), link.Broken)
    assert isinstance(link.parse_runner(b'{"n":0,"ev":{}}'), link.Broken)


def test_deep_json_is_refused() -> None:
    deep: object = 1
    for _ in range(61):
        deep = [deep]
    assert not shallow(deep)
    assert isinstance(clean(link.PermissionAsk(request_id="r", tool_id="t", tool="T", input=deep)), link.Broken)
    raw = b'{"type":"permission_ask","requestId":"r","toolId":"t","tool":"T","input":' + b"[" * 50_000
    assert isinstance(link.parse_event(raw + b"]" * 50_000 + b"}"), link.Broken)


def test_what_the_server_alone_can_know_no_runner_says() -> None:
    for code in ("limit_memory", "limit_x", "runner_protocol"):
        assert isinstance(clean(ev.ErrorEvent(code=code, message="m")), link.Broken)
    assert isinstance(clean(ev.ErrorEvent(code="agent_died", message="m")), ev.ErrorEvent)
