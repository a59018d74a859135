"""Sizes as people write them, and what a caller may ask for."""

from __future__ import annotations

import math
from typing import Any

import pytest

from pilothouse.core import limits, sizes
from pilothouse.core.errors import BadRequest
from pilothouse.core.limits import GIB, KINDS, MIB, Caps


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("512", 512),
        ("512M", 512 * MIB),
        ("2G", 2 * GIB),
        ("1.5 GiB", 3 * GIB // 2),
        ("4kb", 4096),
        (" 1T ", 1024 * GIB),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert sizes.parse(text) == size


@pytest.mark.parametrize("text", ["", "G", "-1", "1e3", "2 X", "1.G", "٣G", "9" * 30, "1G\n2", "nan", "0x10"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(ValueError, match="a size such as"):
        sizes.parse(text)


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1 KiB"), (3 * GIB // 2, "1.5 GiB"), (4 * GIB, "4 GiB")]
)
def test_sizes_are_shown_so_that_they_can_be_read_again(size: int, text: str) -> None:
    assert sizes.text(size) == text
    assert sizes.parse(text) == size


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"luck": 1}, "limits.luck: there is no such limit; there are memory, processes"),
        ({"memory": "2G"}, "limits.memory: expected a number of bytes"),
        ({"memory": True}, "limits.memory: expected a number"),
        ({"memory": None}, "limits.memory: expected a number"),
        ({"memory": 1.5}, "limits.memory: expected a whole number of bytes"),
        ({"memory": 0}, "limits.memory: from 64 MiB to 4 GiB, not 0 B"),
        ({"memory": -1}, "limits.memory: from 64 MiB to 4 GiB"),
        (
            {"memory": 5 * GIB},
            "from 64 MiB to 4 GiB, not 5 GiB; more takes a server's admin, or the setting limits.memory",
        ),
        ({"memory": 10**400}, "from 64 MiB to 4 GiB"),
        ({"cpu": math.nan}, "limits.cpu: expected a number of cores"),
        ({"cpu": math.inf}, "limits.cpu: from 0.05 to 1"),
        ({"processes": 15}, "limits.processes: from 16 to 512, not 15"),
        ({"processes": math.inf}, "limits.processes: "),
        ({"x" * 100: 1}, "limits." + "x" * 40 + ": there"),
    ],
)
def test_what_may_not_be_asked_for_is_named(asked: dict[str, Any], words: str) -> None:
    with pytest.raises(BadRequest) as refused:
        limits.check(asked, Caps())
    assert words in refused.value.message


def test_less_is_anybodys_more_an_administrators() -> None:
    most = Caps(cpu=4)
    asked = limits.check({"memory": GIB, "cpu": 1.5}, most)
    changed = most.changed(asked)
    assert (changed.memory, changed.cpu, changed.disk) == (GIB, 1.5, most.disk)
    assert limits.check({"memory": 64 * GIB}) == {"memory": 64 * GIB}
    with pytest.raises(BadRequest):
        limits.check({"memory": 65 * 1024 * GIB})


def test_every_limit_has_its_kind() -> None:
    assert list(KINDS) == list(Caps().values())
    assert limits.check(Caps().values()) == Caps().values()
    rows = limits.planned(Caps(), {"memory": "cgroup"})
    assert [(row.name, row.enforced, row.used) for row in rows][:2] == [
        ("memory", "cgroup", None),
        ("processes", "none", None),
    ]
