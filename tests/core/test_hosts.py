"""Which `Host` headers name whom."""

from __future__ import annotations

import pytest

from pilothouse.core import hosts

HEADERS = {
    "example.org": "example.org", "example.org:443": "example.org", "EXAMPLE.org:1": "example.org",
    "example.org.": "example.org", "example.org.:8443": "example.org", "localhost": "localhost",
    "127.0.0.1:8420": "127.0.0.1", "[::1]": "[::1]", "[::1]:8420": "[::1]", "[0:0:0:0:0:0:0:1]": "[::1]",
    "[2001:DB8::1]:443": "[2001:db8::1]", "xn--bcher-kva.example": "xn--bcher-kva.example",
    "XN--BCHER-KVA.example": "xn--bcher-kva.example", "a_b.example": "a_b.example", "2130706433": "2130706433",
    "[::ffff:127.0.0.1]": "[::ffff:7f00:1]",
}  # fmt: skip
NONE = [
    "", ":", ":80", ".", "..", "example..org", ".example.org", "example.org..", "example.org:", "example.org:x",
    "example.org:0", "example.org:65536", "example.org:123456", "example.org:80:80", "example.org:-1",
    "example.org:8\xb2", "user@example.org", "user:pw@example.org", "example.org/", "example.org/x", "example.org?x",
    "http://example.org", "example.org,evil.example", "example.org evil.example", " example.org", "example.org ",
    "b\xc3\xbccher.example", "b\xfccher.example", "ex%61mple.org", "example.org\t", "example.org\x00", "-a.example",
    "a-.example", "x" * 64 + ".example", "a." * 130 + "example", "::1", "[::1", "::1]", "[::1]x", "[::1]:", "[::1]:x",
    "[fe80::1%eth0]", "[]", "[127.0.0.1]", "*", "*.example.org", "repeated, host",
]  # fmt: skip


@pytest.mark.parametrize("header", HEADERS)
def test_c03_the_name_in_a_header(header: str) -> None:
    assert hosts.of_header(header) == HEADERS[header]


@pytest.mark.parametrize("header", NONE)
def test_c03_what_is_no_name_is_nobodys(header: str) -> None:
    assert hosts.of_header(header) == ""


def test_a_setting_has_no_port() -> None:
    assert hosts.plain("Example.org.") == "example.org"
    assert hosts.plain("[2001:DB8:0::1]") == "[2001:db8::1]"
    for wrong in ("example.org:80", "[::1]:80", "::1", "a b", ""):
        assert hosts.plain(wrong) == ""


def test_what_a_certificate_covers() -> None:
    assert hosts.covers("Example.org", "example.org")
    assert hosts.covers("*.example.org", "a.example.org")
    for pattern, name in (("*.example.org", "example.org"), ("*.example.org", "a.b.example.org"), ("*.", "a")):
        assert not hosts.covers(pattern, name)
