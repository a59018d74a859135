"""Names, lists and addresses: what counts as what."""

from __future__ import annotations

import pytest

from pilothouse.core import reach
from pilothouse.core.errors import BadRequest
from pilothouse.core.reach import BadTarget, Reach


def allow(*domains: str) -> Reach:
    return Reach("allow", reach.domains(domains, "domains"))


@pytest.mark.parametrize(
    ("listed", "target", "may"),
    [
        ("pypi.org", "pypi.org:443", True),
        ("pypi.org", "pypi.org:80", True),
        ("pypi.org", "pypi.org:22", False),
        ("pypi.org", "PyPI.ORG.:443", True),
        ("PyPI.org.", "pypi.org:443", True),
        ("pypi.org", "www.pypi.org:443", False),
        ("pypi.org", "evilpypi.org:443", False),
        ("pypi.org", "pypi.org.evil.test:443", False),
        ("*.github.com", "api.github.com:443", True),
        ("*.github.com", "a.b.github.com:80", True),
        ("*.github.com", "github.com:443", False),
        ("*.github.com", "evilgithub.com:443", False),
        ("git.example:22", "git.example:22", True),
        ("git.example:22", "git.example:443", False),
        ("*.example.org:8443", "a.example.org:8443", True),
        ("xn--bcher-kva.example", "xn--bcher-kva.example:443", True),
        ("a_b.example.org", "a_b.example.org:443", True),
        ("93.184.216.34", "93.184.216.34:443", True),
        ("[2606:2800:220::1]", "[2606:2800:0220:0::1]:443", True),
        ("[2606:2800:220::1]:8080", "[2606:2800:220::1]:8080", True),
    ],
)
def test_the_list(listed: str, target: str, may: bool) -> None:
    asked = reach.target(target)
    assert allow(listed).allows(asked) is may
    assert not Reach("off", reach.domains([listed], "domains")).allows(asked)
    assert Reach("full").allows(asked)


@pytest.mark.parametrize(
    "text",
    [
        "", ":443", "pypi.org", "pypi.org:", "pypi.org:0", "pypi.org:99999", "pypi.org:443443", "pypi.org:-1",
        "pypi.org:+443", "pypi.org:4٣3", "pypi.org:443:443", "user@pypi.org:443", "pypi.org/x:443", "pypi .org:443",
        "pypi.org\r\n:443", "pypi\0.org:443", "bücher.example:443", "ｐypi.org:443", ".pypi.org:443", "pypi..org:443",
        "pypi.org..:443", "-pypi.org:443", "pypi-.org:443", "*.pypi.org:443", "*:443", f"{'a' * 64}.org:443",
        f"{'a.' * 127}org:443", "127.1:443", "0x7f.0.0.1:443", "0x7f000001:443", "2130706433:443", "0177.0.0.1:443",
        "1.2.3.4.5:443", "256.1.1.1:443", "[::1:443", "::1:443", "[::1]", "[::1%lo]:443", "[fe80::1%eth0]:443",
        "[v1.a]:443", "[pypi.org]:443", "[127.0.0.1]:443", "localhost%00.pypi.org:443",
    ],
)  # fmt: skip
def test_what_is_no_target(text: str) -> None:
    with pytest.raises(BadTarget) as why:
        reach.target(text)
    assert str(why.value).isprintable()


@pytest.mark.parametrize(
    "entry", ["", "*", "*.", "*.com", "*.*.org", "a b", "https://pypi.org", "pypi.org/x", "*.127.0.0.1", "pypi.org:0"]
)
def test_what_is_no_domain(entry: str) -> None:
    with pytest.raises(BadRequest, match=r"egress\.domains"):
        reach.domains(["pypi.org", entry], "egress.domains")


@pytest.mark.parametrize("entry", ["https://pypi.org", "https://pypi.org/simple", "pypi.org/simple"])
def test_an_address_in_the_place_of_a_domain_is_told_what_is_too_much(entry: str) -> None:
    with pytest.raises(
        BadRequest, match=r"^egress\.domains: '.*': expected the name of a host, without a scheme or a path"
    ):
        reach.domains([entry], "egress.domains")


def test_a_list_is_no_longer_than_a_person_reads_and_says_each_once() -> None:
    with pytest.raises(BadRequest, match="201 domains, at most 200"):
        reach.domains([f"h{n}.example" for n in range(201)], "egress.domains")
    found = reach.domains(["A.example", "a.example.", "*.a.example:8443"], "egress.domains")
    assert [str(domain) for domain in found] == ["a.example", "*.a.example:8443"]


@pytest.mark.parametrize(
    ("wished", "configured", "further"),
    [
        (Reach("off"), Reach("off"), ""),
        (Reach("off"), allow("a.org"), ""),
        (allow("a.org"), Reach("off"), "policy"),
        (Reach("full"), allow("a.org"), "policy"),
        (Reach("full"), Reach("full"), ""),
        (allow("anything.org"), Reach("full"), ""),
        (allow("a.org"), allow("a.org", "b.org"), ""),
        (allow("c.org"), allow("a.org", "b.org"), "domains"),
        (allow("x.a.org"), allow("*.a.org"), ""),
        (allow("*.x.a.org"), allow("*.a.org"), ""),
        (allow("*.a.org"), allow("*.a.org"), ""),
        (allow("*.a.org"), allow("a.org"), "domains"),
        (allow("a.org"), allow("*.a.org"), "domains"),
        (allow("xa.org"), allow("*.a.org"), "domains"),
        (allow("a.org:443"), allow("a.org"), ""),
        (allow("a.org:22"), allow("a.org"), "domains"),
        (allow("a.org"), allow("a.org:443"), "domains"),
        (allow(), allow("a.org"), ""),
    ],
)
def test_what_goes_further_than_the_configuration(wished: Reach, configured: Reach, further: str) -> None:
    assert reach.beyond(wished, configured) == further


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.1.2", "10.0.0.1", "172.16.3.3", "192.168.1.1", "0.0.0.0", "0.1.2.3", "255.255.255.255",
        "169.254.169.254", "169.254.170.2", "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192",
        "192.0.2.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "192.88.99.1", "224.0.0.1", "239.1.1.1", "240.0.0.1",
        "::", "::1", "fe80::1", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1", "2001:db8::1",
        "3fff::1", "100::1", "4000::1", "5f00::1",
        "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:10.0.0.1", "::ffff:168.63.129.16", "::127.0.0.1",
        "2002:7f00:1::", "2002:a9fe:a9fe::1", "2002:c0a8:0101::", "64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe",
        "64:ff9b::100.100.100.200", "64:ff9b:1::1", "2001::1", "2001:0:7f00:1::", "2606:2800::5efe:10.0.0.1",
        "2606:2800::200:5efe:127.0.0.1", "::ffff:0:127.0.0.1", "2606:2800:220::1%eth0", "", "localhost", "1.2.3",
    ],
)  # fmt: skip
def test_addresses_that_are_not_public(address: str) -> None:
    assert not reach.public(address)


@pytest.mark.parametrize(
    "address",
    ["93.184.216.34", "1.1.1.1", "168.63.129.17", "2606:2800:220:1::1", "::ffff:93.184.216.34", "64:ff9b::5db8:d822"],
)
def test_addresses_that_are_public(address: str) -> None:
    assert reach.public(address)
