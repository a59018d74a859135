"""Whom the server takes for the client, whatever a header says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.core.forwarded import Form, Hop, networks, read

TRUSTED = networks(("127.0.0.1", "10.0.0.0/8", "2001:db8:1::/48"))


def hop(peer: str, form: Form = "x-forwarded", **headers: Any) -> Hop:
    told = {k.replace("_", "-"): v if isinstance(v, list) else [v] for k, v in headers.items()}
    return read(peer, lambda name: told.get(name, []), TRUSTED, form)


def xff(*lines: str, peer: str = "127.0.0.1") -> str:
    return hop(peer, x_forwarded_for=list(lines)).client


@pytest.mark.parametrize("peer", ["203.0.113.9", "11.0.0.1", "2001:db8:2::1", "", "somewhere"])
def test_a_stranger_is_believed_nothing(peer: str) -> None:
    headers: dict[str, Any] = {
        "x_forwarded_for": "127.0.0.1",
        "x_forwarded_proto": "https",
        "x_forwarded_host": "localhost",
    }
    assert hop(peer, **headers) == Hop(peer)
    assert hop(peer, "forwarded", forwarded="for=127.0.0.1;proto=https;host=localhost") == Hop(peer)


def test_the_client_is_the_rightmost_that_is_no_trusted_proxy() -> None:
    assert xff("203.0.113.9") == "203.0.113.9"
    assert xff("6.6.6.6, 203.0.113.9") == "203.0.113.9", "what stands left of it is the client's own"
    assert xff("6.6.6.6, 203.0.113.9, 10.1.2.3") == "203.0.113.9"
    assert xff("6.6.6.6", "203.0.113.9", "10.1.2.3") == "203.0.113.9", "lines are one list"
    assert xff("10.9.9.9, 10.1.2.3") == "10.9.9.9", "a client inside"
    assert xff("127.0.0.1, 203.0.113.9") == "203.0.113.9"
    assert xff("203.0.113.9", peer="::ffff:127.0.0.1") == "203.0.113.9"
    assert xff("203.0.113.9, 2001:DB8:1::7", peer="10.0.0.1") == "203.0.113.9"


def test_ways_to_write_an_address() -> None:
    for text, address in {
        "203.0.113.9:4711": "203.0.113.9", "[2001:db8::1]:80": "2001:db8::1", "[2001:db8::1]": "2001:db8::1",
        "2001:DB8:0::1": "2001:db8::1", " 203.0.113.9 ": "203.0.113.9", "::ffff:203.0.113.9": "203.0.113.9",
    }.items():  # fmt: skip
        assert xff(text) == address, text


@pytest.mark.parametrize("text", [
    "", "unknown", "_hidden", "localhost", "203.0.113", "0x7f.1", "203.0.113.9;", "'203.0.113.9'", "<script>",
    "[::1", "[::1]x", "[::1]:x", "1" * 500, "203.0.113.9\x00", "٢٠٣.0.113.9",
])  # fmt: skip
def test_what_cannot_be_read_ends_at_the_proxy_that_wrote_it(text: str) -> None:
    assert xff(text) == "127.0.0.1"
    assert xff(f"6.6.6.6, {text}, 10.1.2.3") == "10.1.2.3"


def test_a_list_without_end_is_not_read_to_its_end() -> None:
    assert xff("6.6.6.6" + ", 10.0.0.1" * 10_000) == "10.0.0.1"


def test_scheme_and_host_are_those_that_the_same_proxy_wrote() -> None:
    assert hop("127.0.0.1", x_forwarded_proto="HTTPS", x_forwarded_host="a.example:8443") == Hop(
        "127.0.0.1", "https", "a.example:8443"
    )
    chain = hop("127.0.0.1", x_forwarded_for="6.6.6.6, 203.0.113.9, 10.0.0.2", x_forwarded_proto="ftp, https, http")
    assert chain == Hop("203.0.113.9", "https")
    anew = hop("127.0.0.1", x_forwarded_for="203.0.113.9, 10.0.0.2", x_forwarded_proto="https")
    assert anew.scheme == "https"
    spoofed = hop("127.0.0.1", x_forwarded_for="6.6.6.6, 203.0.113.9", x_forwarded_host="evil.example, a.example")
    assert spoofed.host == "a.example"
    for nonsense in ("", "ftp", "https;", "htt ps"):
        assert hop("127.0.0.1", x_forwarded_proto=nonsense).scheme is None
    assert hop("127.0.0.1", x_forwarded_proto="wss").scheme == "https"


def forwarded(*lines: str) -> Hop:
    return hop("127.0.0.1", "forwarded", forwarded=list(lines))


def test_the_standard_header() -> None:
    assert forwarded("for=203.0.113.9;proto=https;host=a.example") == Hop("203.0.113.9", "https", "a.example")
    assert forwarded('For="[2001:db8::1]:4711" ; Proto=https') == Hop("2001:db8::1", "https")
    assert forwarded('for=6.6.6.6;host=evil.example, for=203.0.113.9;host="a.example:8443";by=10.0.0.1') == Hop(
        "203.0.113.9", None, "a.example:8443"
    )
    assert forwarded("for=6.6.6.6;proto=http", "for=203.0.113.9;proto=https,for=10.0.0.2;proto=http") == Hop(
        "203.0.113.9", "https"
    )
    assert forwarded("for=unknown;proto=https") == Hop("127.0.0.1", "https")
    assert forwarded("proto=https") == Hop("127.0.0.1", "https")
    assert forwarded(r'for="203.0.113\.9"').client == "203.0.113.9"


@pytest.mark.parametrize("line", [
    "", ";", ",", "for", "for=", "for==x", 'for="203.0.113.9', "for=203.0.113.9;for=10.0.0.1", "for=203.0.113.9 x=y",
    'for=", for=203.0.113.9', "for=203.0.113.9,", "for=2001:db8::1/64", 'for="a\\',
])  # fmt: skip
def test_a_line_that_is_none_tells_nothing(line: str) -> None:
    assert forwarded(line) == Hop("127.0.0.1")
    assert forwarded("for=6.6.6.6", line).client == "127.0.0.1", "nor what stands before it"


def test_one_form_counts_and_the_other_is_the_clients_own() -> None:
    both: dict[str, Any] = {"x_forwarded_for": "203.0.113.9", "forwarded": "for=6.6.6.6;proto=https;host=evil.example"}
    assert hop("127.0.0.1", **both) == Hop("203.0.113.9")
    assert hop("127.0.0.1", "forwarded", **both).client == "6.6.6.6"


@given(st.lists(st.text(max_size=40), max_size=5), st.sampled_from(["x-forwarded", "forwarded"]))
def test_nothing_that_is_sent_breaks_it(lines: list[str], form: Form) -> None:
    told: dict[str, Any] = {
        "x_forwarded_for": lines,
        "forwarded": lines,
        "x_forwarded_proto": lines,
        "x_forwarded_host": lines,
    }
    assert hop("127.0.0.1", form, **told).client
    assert hop("203.0.113.9", form, **told) == Hop("203.0.113.9")


def test_networks_are_checked() -> None:
    for wrong in ("", "x", "10.0.0.1/8", "10.0.0.0/33", "*", "unix"):
        with pytest.raises(ValueError, match="^" + wrong.replace("*", r"\*") + "$"):
            networks((wrong,))
