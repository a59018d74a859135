"""Tables of issuers: a good one is understood, a wrong one is refused by the name of what is wrong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilothouse import config
from pilothouse.config import ConfigError
from pilothouse.core import issuers, useragent
from pilothouse.core.issuers import BadIssuer

GOOD: dict[str, Any] = {"name": "okta", "issuer": "https://x.example/a", "audience": "api", "default_role": "viewer"}


def test_a_whole_table() -> None:
    (made,) = issuers.read([
        GOOD | {
            "client_id": "page", "client_secret": "hidden-words", "roles": {"a b": "admin", "ops": "operator"},
            "scopes": ["groups"], "algorithms": ["EdDSA"], "leeway_s": 0, "signin_s": 60, "label": "Okta",
        }
    ])  # fmt: skip
    assert made.roles == {"a b": "admin", "ops": "operator"}
    assert (made.scopes, made.audience, made.algorithms) == (("openid", "groups"), ("api",), ("EdDSA",))
    assert made.discovery == "https://x.example/a/.well-known/openid-configuration"
    assert "hidden-words" not in repr(made)


@pytest.mark.parametrize(("change", "named"), [
    ({"isuer": "x"}, "isuer"), ({"name": None}, "name"), ({"issuer": None}, "issuer"), ({"name": "A"}, "name"),
    ({"name": "a/b"}, "name"), ({"name": "-a"}, "name"), ({"issuer": "x.example"}, "issuer"), ({"issuer": 7}, "issuer"),
    ({"issuer": "ftp://x.example"}, "issuer"), ({"issuer": "https://u:p@x.example"}, "issuer"),
    ({"issuer": "https://x.example?a=b"}, "issuer"), ({"issuer": "https://x.example#a"}, "issuer"),
    ({"issuer": "https://x.example:port"}, "issuer"), ({"issuer": "https://"}, "issuer"),
    ({"algorithms": ["HS256"]}, "algorithms"), ({"algorithms": ["none"]}, "algorithms"), ({"algorithms": []}, "algo"),
    ({"algorithms": ["RS256", "HS512"]}, "algorithms"), ({"roles": {"ops": "root"}}, "roles.ops"),
    ({"roles": ["ops"]}, "roles"), ({"roles": {"ops": 7}}, "roles.ops"), ({"default_role": "owner"}, "default_role"),
    ({"default_role": None}, "roles"), ({"audience": None}, "audience"), ({"audience": []}, "audience"),
    ({"audience": [""]}, "audience"), ({"leeway_s": 301}, "leeway_s"), ({"leeway_s": -1}, "leeway_s"),
    ({"leeway_s": True}, "leeway_s"), ({"signin_s": 0}, "signin_s"), ({"signin_s": 10**9}, "signin_s"),
    ({"allow_private": "yes"}, "allow_private"), ({"scopes": ["a b"]}, "scopes"), ({"scopes": []}, "scopes"),
    ({"client_secret": "hidden-words"}, "client_secret"), ({"organisation": "No Spaces"}, "organisation"),
    ({"discovery_url": "file:///etc"}, "discovery_url"), ({"label": "a\nb"}, "label"),
])  # fmt: skip
def test_a_wrong_table_is_refused_by_name(change: dict[str, Any], named: str) -> None:
    table = {key: value for key, value in {**GOOD, **change}.items() if value is not None}
    with pytest.raises(BadIssuer, match=named) as refused:
        issuers.read([table])
    assert "hidden-words" not in str(refused.value)


def test_two_issuers_differ_and_there_are_not_too_many() -> None:
    for field in ("name", "issuer"):
        other = GOOD | {"name": "other", "issuer": "https://y.example"} | {field: GOOD[field]}
        with pytest.raises(BadIssuer, match=field):
            issuers.read([GOOD, other])
    with pytest.raises(BadIssuer, match="at most"):
        issuers.read([GOOD] * 21)
    for nothing in ({}, "x", [7], GOOD):
        with pytest.raises(BadIssuer, match="tables"):
            issuers.read(nothing)


def test_issuers_stand_in_the_file_which_is_ones_own(tmp_path: Path) -> None:
    file = tmp_path / "pilothouse.toml"
    file.write_text('[server]\nport = 1\n[[issuers]]\nname = "a"\nissuer = "https://x.example"\naudience = ["b"]\n')
    environ = {"PILOTHOUSE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    file.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        config.load(environ, make=False)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match=r"issuers\[0\]: give roles"):
        config.load(environ, make=False)
    file.write_text(file.read_text() + 'default_role = "viewer"\nclient_id = "c"\nclient_secret = "hidden-words"\n')
    made = config.load(environ, make=False)
    assert [one.name for one in made.issuers] == ["a"]
    assert "hidden-words" not in repr(made)
    assert config.shown(made)["issuers"] == "****"
    assert config.load({"PILOTHOUSE_HOME": "/nowhere", "HOME": "/"}, make=False).issuers == ()


@pytest.mark.parametrize(("header", "words"), [
    (None, ""), ("", ""), ("<script>", "Another program"), ("curl/8.5.0", "curl"), ("Android; x", "Android"),
    ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
    ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/140.0 Safari/537.36 Edg/140.0", "Edge on Windows"),
    ("Mozilla/5.0 (iPhone; CPU iPhone OS 17_0 like Mac OS X) Version/17 Mobile Safari/604.1", "Safari on iPhone"),
    ("Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15) AppleWebKit/537.36 Chrome/140 Safari/537", "Chrome on macOS"),
])  # fmt: skip
def test_a_browser_in_a_few_words(header: str | None, words: str) -> None:
    assert useragent.summary(header) == words
