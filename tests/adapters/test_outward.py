"""What is taken for a number, and which numbers are asked."""

from __future__ import annotations

import pytest

from pilothouse.adapters import outward


@pytest.mark.parametrize("host", [
    "127.0.0.1", "::1", "10.0.0.1", "169.254.169.254", "fd00::1", "::ffff:127.0.0.1", "127.1", "2130706433", "0",
    "127.0.0.1.", "0177.0.0.1", "fe80::1%eth0", "1:2",
])  # fmt: skip
def test_c31_what_is_not_looked_up_has_to_be_public_as_it_stands(host: str) -> None:
    assert outward.is_number(host)
    assert outward.leads_inside(host)


@pytest.mark.parametrize("host", ["8.8.8.8", "2001:4860:4860::8888", "issuer.example", "localhost", "0x7f.1"])
def test_a_name_is_for_whoever_looks_it_up(host: str) -> None:
    assert not outward.leads_inside(host)
