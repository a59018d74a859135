from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core import control, frames
from pilothouse.core.audience import VIEWERS_MAX, Audience, Outcome, Role, Viewer, ViewerId
from pilothouse.core.errors import Conflict, Forbidden, NotFound, TooMany
from pilothouse.core.frames import Fault
from pilothouse.core.shell import USUAL, Size

A, B, C = ViewerId("a"), ViewerId("b"), ViewerId("c")


def viewer(id: str, role: Role = "type", size: tuple[int, int] | None = None, **more: bool) -> Viewer:
    more = {"may_type": True, "plain": False} | more
    return Viewer(ViewerId(id), id, role, more["may_type"], more["plain"], Size(*size) if size else None)


def roles(audience: Audience) -> dict[str, str]:
    return {v.id: v.role for v in audience.viewers}


def test_the_smallest_of_those_who_type() -> None:
    audience = Audience()
    assert audience.join(viewer("a", size=(120, 30))).size == Size(120, 30)
    assert audience.join(viewer("b", size=(100, 50))).size == Size(100, 30)
    assert audience.join(viewer("c", "watch", (20, 10))).size is None
    assert audience.resize(C, Size(5, 5)).size is None
    assert audience.role(C, "type").size == Size(5, 5)
    assert audience.leave(C).size == Size(100, 30)


def test_nobody_types_and_the_size_stays() -> None:
    audience = Audience()
    audience.join(viewer("a", size=(120, 30)))
    assert audience.leave(A) == Outcome(seen=True)
    assert (audience.size, audience.typed_in) == (Size(120, 30), False)


def test_who_may_not_type_watches() -> None:
    audience = Audience()
    audience.join(viewer("a", "type", (10, 10), may_type=False))
    assert (roles(audience), audience.size) == ({"a": "watch"}, USUAL)
    with pytest.raises(Forbidden, match="may only watch"):
        audience.role(A, "type")
    with pytest.raises(Forbidden, match="may only watch"):
        audience.take(A)
    assert roles(audience) == {"a": "watch"}


def test_taking_and_giving() -> None:
    audience = Audience()
    for id in ("a", "b", "c"):
        audience.join(viewer(id))
    taken = audience.take(B)
    assert ([v.id for v in taken.roles], taken.seen) == ([A, C], True)
    assert roles(audience) == {"a": "watch", "b": "type", "c": "watch"}
    audience.give(B, C)
    assert roles(audience) == {"a": "watch", "b": "watch", "c": "type"}
    with pytest.raises(Forbidden, match="only who types"):
        audience.give(B, A)
    with pytest.raises(NotFound):
        audience.give(C, ViewerId("gone"))
    assert audience.give(C, C) == Outcome()
    assert roles(audience) == {"a": "watch", "b": "watch", "c": "type"}


def test_a_plain_client_takes_the_place_of_the_one_before_and_ours_stay() -> None:
    audience = Audience()
    audience.join(viewer("ours"))
    assert audience.join(viewer("a", plain=True)).kicked == ()
    assert audience.join(viewer("b", plain=True)).kicked == (A,)
    assert set(roles(audience)) == {"ours", "b"}
    assert audience.leave(A) == Outcome()
    audience.take(ViewerId("ours"))
    assert roles(audience) == {"ours": "type", "b": "watch"}
    audience.give(ViewerId("ours"), B)
    assert roles(audience) == {"ours": "watch", "b": "type"}


def test_bounds() -> None:
    audience = Audience()
    for n in range(VIEWERS_MAX - 1):
        audience.join(viewer(f"v{n}"))
    audience.join(viewer("a", plain=True))
    with pytest.raises(TooMany, match=str(VIEWERS_MAX)):
        audience.join(viewer("more"))
    assert audience.join(viewer("b", plain=True)).kicked == (A,), "who takes a place needs none"
    with pytest.raises(Conflict):
        audience.join(viewer("b"))
    with pytest.raises(NotFound):
        audience.resize(A, Size(1, 1))


_ids = st.sampled_from("abcde")
_verbs = st.one_of(
    st.tuples(st.just("join"), _ids, st.sampled_from(["type", "watch"]), st.booleans(), st.booleans()),
    st.tuples(st.just("leave"), _ids),
    st.tuples(st.just("resize"), _ids, st.integers(1, 1000), st.integers(1, 1000)),
    st.tuples(st.just("role"), _ids, st.sampled_from(["type", "watch"])),
    st.tuples(st.just("take"), _ids),
    st.tuples(st.just("give"), _ids, _ids),
)


@given(st.lists(_verbs, max_size=40))
def test_whatever_is_asked_the_rules_hold(steps: list[tuple]) -> None:  # type: ignore[type-arg]
    audience = Audience()
    size = audience.size
    for verb, id, *rest in steps:
        before = audience.viewers
        try:
            if verb == "join":
                outcome = audience.join(viewer(id, rest[0], None, may_type=rest[1] or rest[2], plain=rest[2]))
            elif verb == "resize":
                outcome = audience.resize(ViewerId(id), Size(*rest))
            else:
                outcome = getattr(audience, verb)(ViewerId(id), *rest)
        except (Conflict, Forbidden, NotFound):
            assert audience.viewers == before, "a refusal changes nothing"
            continue
        size = outcome.size or size
        assert size == audience.size
        assert sum(v.plain for v in audience.viewers) <= 1
        assert all(v.may_type for v in audience.viewers if v.role == "type")
        known = [v.size for v in audience.viewers if v.role == "type" and v.size]
        if known:
            assert audience.size == Size(min(s.cols for s in known), min(s.rows for s in known))
        assert {v.id: v.role for v in outcome.roles}.items() <= {v.id: v.role for v in audience.viewers}.items()


# --- what is said of it -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "asked"),
    [
        (b'{"type":"pause"}', control.Pause()),
        (b'{"type":"resume"}', control.Resume()),
        (b'{"type":"role","role":"watch"}', control.Become("watch")),
        (b'{"type":"take"}', control.Take()),
        (b'{"type":"give","to":"b"}', control.Give("b")),
    ],
)
def test_what_a_viewer_may_say(payload: bytes, asked: control.Asked) -> None:
    assert control.decode(payload) == asked


@pytest.mark.parametrize(
    "payload",
    [
        *(b"", b"{}", b"[]", b"null", b"\xff", b'{"type":"kill"}', b'{"type":"role"}', b'{"type":"role","role":"own"}'),
        *(b'{"type":"give","to":7}', b'{"type":"pause","x":1}', b'{"type":"presence"}', b"[" * 1000, b" " * 1025),
    ],
)
def test_what_a_viewer_may_not_say(payload: bytes) -> None:
    fault = control.decode(payload)
    assert isinstance(fault, Fault)
    assert (fault.name, fault.close, fault.message[:9]) == ("control", frames.POLICY, "CONTROL: ")


def test_what_a_viewer_is_told() -> None:
    shown = control.presence(A, (viewer("a", size=(80, 24)), viewer("b", "watch", may_type=False)))
    assert shown[:1] == b"\x10"
    assert json.loads(shown[1:]) == {
        "type": "presence",
        "you": "a",
        "viewers": [
            {"id": "a", "name": "a", "role": "type", "mayType": True, "size": {"width": 80, "height": 24}},
            {"id": "b", "name": "b", "role": "watch", "mayType": False},
        ],
    }
    assert json.loads(control.sized(Size(9, 8))[1:]) == {"type": "size", "width": 9, "height": 8}
    assert json.loads(control.typed(7)[1:]) == {"type": "typed", "offset": 7}
    assert json.loads(control.refused("take", "no")[1:]) == {"type": "refused", "what": "take", "message": "no"}
