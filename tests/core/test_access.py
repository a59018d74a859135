"""Who may what in a session, row by row of the table; and the words of roles, grants and links."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from pilothouse.core import access
from pilothouse.core.access import IN_SESSIONS, ROLES, SCOPES, SCOPES_OF_ROLE, Grant, Principal, Role, need, rights
from pilothouse.core.errors import BadRequest, Forbidden, NotFound
from pilothouse.core.ids import SessionId

S = SessionId("01a1fca5-a696-7da8-a592-78b242187567")
ALL = set(IN_SESSIONS)


@dataclass(frozen=True)
class Facts:
    id: SessionId = S
    organisation: str = "red"
    owner: str = "olga"
    private: bool = False
    grants: dict[str, Grant] = field(default_factory=dict)


def who(role: Role, account: str = "ann", most: frozenset[str] | None = None) -> Principal:
    cap = frozenset(SCOPES) if most is None else most
    return Principal("person", account, account, account, cap & SCOPES_OF_ROLE[role], "signin:x", "red", role, most=cap)


def test_the_scopes_of_the_roles_are_these() -> None:
    assert {role: set(scopes) for role, scopes in SCOPES_OF_ROLE.items()} == {
        "viewer": {"read"},
        "operator": {"read", "run"},
        "approver": {"read", "run", "approve"},
        "admin": {"read", "run", "approve", "admin", "metrics"},
    }
    assert tuple(SCOPES_OF_ROLE) == ROLES


@pytest.mark.parametrize(
    ("role", "account", "private", "grant", "may"),
    [
        ("viewer", "ann", False, None, {"read"}),
        ("operator", "ann", False, None, {"read", "run"}),
        ("approver", "ann", False, None, {"read", "run", "approve"}),
        ("admin", "ann", False, None, ALL),
        ("viewer", "ann", True, None, set()),
        ("operator", "ann", True, None, set()),
        ("approver", "ann", True, None, set()),
        ("admin", "ann", True, None, ALL),
        ("operator", "olga", False, None, ALL),
        ("operator", "olga", True, None, ALL),
        ("viewer", "olga", False, None, {"read"}),
        ("viewer", "olga", True, None, {"read"}),
        ("viewer", "ann", False, "watch", {"read"}),
        ("viewer", "ann", False, "run", {"read", "run"}),
        ("viewer", "ann", True, "watch", {"read"}),
        ("viewer", "ann", True, "approve", {"read", "run", "approve"}),
        ("approver", "ann", True, "watch", {"read"}),
    ],
)
def test_rights_in_a_session(role: Role, account: str, private: bool, grant: Grant | None, may: set[str]) -> None:
    session = Facts(private=private, grants={account: grant} if grant else {})
    assert rights(who(role, account), session) == may
    assert rights(replace(who(role, account), organisation="blue"), session) == set()
    assert rights(who(role, account, frozenset({"read"})), session) == may & {"read"}
    bearer = replace(who(role, account), kind="link", session=S, most=frozenset({"read", "approve"}))
    assert rights(bearer, session) == may & {"read", "approve"}
    assert rights(replace(bearer, session=SessionId("another")), session) == set()


def test_who_may_not_look_is_told_that_there_is_nothing() -> None:
    need(who("operator"), Facts(), "run")
    with pytest.raises(Forbidden):
        need(who("operator"), Facts(), "approve")
    with pytest.raises(NotFound):
        need(who("approver"), Facts(private=True), "approve")
    with pytest.raises(NotFound):
        need(replace(who("admin"), organisation="blue"), Facts(), "read")


def test_a_link_never_runs_anything() -> None:
    assert {right: set(scopes) for right, scopes in access.SCOPES_OF_LINK.items()} == {
        "watch": {"read"},
        "approve": {"read", "approve"},
        "type": {"read", "type"},
    }


@pytest.mark.parametrize("right", ["watch", "approve", "type"])
def test_a_link_types_if_it_says_so_and_its_maker_may(right: access.LinkRight) -> None:
    for role in ("viewer", "operator", "approver", "admin"):
        bearer = replace(who(role, "bob"), kind="link", session=S, most=access.SCOPES_OF_LINK[right])
        assert access.types(bearer, Facts()) == (right == "type" and role != "viewer"), role
        assert access.types(who(role, "bob"), Facts()) == (role != "viewer")
        assert not access.types(replace(bearer, session=SessionId("another")), Facts())
    reader = replace(who("admin", "bob", frozenset({"read"})), most=frozenset({"read"}))
    assert not access.types(reader, Facts())


def test_unknown_words_are_named() -> None:
    for read in (access.role, access.grant, access.link_right):
        with pytest.raises(BadRequest, match="root"):
            read("root")
