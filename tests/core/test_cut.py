"""Long fields are cut, whatever they hold, and nothing of them is lost."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core import events as ev
from pilothouse.core.cut import KEEP, cut, shorten


def test_a_short_event_stays_as_it_is() -> None:
    event = ev.ToolResult(tool_id="t", result="x" * ev.FIELD_MAX, is_error=False)
    assert cut(event, "/t/") == (event, [])


def test_a_long_text_keeps_head_and_tail_and_says_where_the_whole_is() -> None:
    text = "a" * 50_000 + "ä" * 50_000 + "z"
    shorter, (whole,) = cut(ev.ToolResult(tool_id="t", result=text, is_error=False), "/t/")
    assert isinstance(shorter, ev.ToolResult)
    assert shorter.result.startswith("a" * KEEP)
    assert shorter.result.endswith("äz")
    assert len(shorter.result.encode()) < 2 * KEEP + 100
    assert whole.text.decode() == text
    assert shorter.truncated == {"result": ev.Cut(size=len(text.encode()), url=f"/t/{whole.digest}")}
    assert whole.digest == hashlib.sha256(text.encode()).hexdigest()


def test_a_long_input_keeps_its_names() -> None:
    event = ev.ToolUse(tool="Write", tool_id="t", input={"file_path": "a", "content": "x" * 100_000}, kind="edit")
    shorter, _ = cut(event, "/t/")
    assert isinstance(shorter, ev.ToolUse)
    assert shorter.input["file_path"] == "a"
    assert set(shorter.truncated or {}) == {"input"}


def test_the_wire_name_of_a_cut_field_is_the_wires() -> None:
    event = ev.ApprovalResolved(approval_id="a", outcome="approved", by="x", updated_input={"a": "x" * 100_000})
    assert set(cut(event, "/")[0].truncated or {}) == {"updatedInput"}


LONG = st.integers(0, 90_000).flatmap(lambda n: st.sampled_from(["a", "ä", "𐍈", "\x00", '"']).map(lambda c: c * n))
JSON = st.recursive(
    st.none() | st.integers(-(2**70), 2**70) | LONG,
    lambda kids: st.lists(kids, max_size=4) | st.dictionaries(LONG, kids, max_size=4),
    max_leaves=8,
)
DIFFS = st.lists(st.builds(ev.Diff, path=LONG, kind=st.just("edit"), patch=LONG), min_size=1, max_size=8)
ENTRIES = st.lists(st.builds(ev.PlanEntry, content=LONG, status=st.just("pending")), min_size=1, max_size=200)
EVENTS = st.one_of(
    st.builds(ev.ToolUse, tool=st.just("T"), tool_id=st.just("t"), input=JSON, kind=st.just("other")),
    st.builds(ev.ToolResult, tool_id=st.just("t"), result=LONG, is_error=st.just(False), diff=DIFFS),
    st.builds(ev.Plan, entries=ENTRIES),
    st.builds(ev.Custom, name=st.just("n"), data=JSON, by=st.just("x")),
    st.builds(ev.ErrorEvent, code=st.just("c"), message=LONG),
)


@given(event=EVENTS)
def test_what_is_logged_is_bounded_valid_and_its_whole_is_kept(event: ev.Event) -> None:
    shorter, wholes = cut(event, "/t/")
    for name in ("input", "result", "diff", "entries", "data", "message"):
        value: Any = getattr(shorter, name, None)
        if value is not None:
            size = len(value.encode()) if isinstance(value, str) else len(msgspec.json.encode(value))
            # JSON escapes of control characters and quotes come on top of the bytes that are counted
            assert size <= ev.FIELD_MAX * 6
    assert ev.decode(ev.encode(shorter)) == shorter
    marked = shorter.truncated or {}
    assert {c.url for c in marked.values()} == {f"/t/{w.digest}" for w in wholes}
    for whole in wholes:
        assert len(whole.text) > ev.FIELD_MAX
    assert cut(event, "/t/") == (shorter, wholes)


@given(text=LONG)
def test_shortening_twice_is_shortening_once_more_or_nothing(text: str) -> None:
    assert len(shorten(text).encode()) <= 2 * KEEP + 100
