"""Metrics as Prometheus reads them: its text format, version 0.0.4, UTF-8.

    # HELP name text                    `\\\\` and `\\n` escaped
    # TYPE name counter|gauge|histogram
    name{label="value",…} number        in values `\\\\`, `"` and `\\n` escaped

A histogram's samples are `name_bucket{…,le="bound"}`, cumulative and ending with `le="+Inf"`, then `name_sum` and
`name_count`. Each family stands together and comes once; the last line ends with a newline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Kind = Literal["counter", "gauge", "histogram"]
Labels = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Sample:
    value: float
    labels: Labels = ()
    suffix: str = ""


@dataclass(frozen=True, slots=True)
class Family:
    """What has one name."""

    name: str
    kind: Kind
    help: str
    samples: list[Sample] = field(default_factory=list)


def gauge(name: str, help: str, value: float, *labels: tuple[str, str]) -> Family:
    return Family(name, "gauge", help, [Sample(value, labels)])


def counter(name: str, help: str, value: float) -> Family:
    return Family(name, "counter", help, [Sample(value)])


def split(name: str, help: str, label: str, values: Iterable[tuple[str, float]], kind: Kind = "gauge") -> Family:
    """One number for each value of a label."""
    return Family(name, kind, help, [Sample(number, ((label, value),)) for value, number in values])


def encode(families: Iterable[Family]) -> bytes:
    lines: list[str] = []
    for family in families:
        lines.append(f"# HELP {family.name} {_escaped(family.help)}")
        lines.append(f"# TYPE {family.name} {family.kind}")
        for sample in family.samples:
            lines.append(f"{family.name}{sample.suffix}{_labels(sample.labels)} {number(sample.value)}")
    return "".join(f"{line}\n" for line in lines).encode("utf-8", "replace")


def number(value: float) -> str:
    if isinstance(value, int):
        return str(value)
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) and abs(value) < 2**53 else repr(value)


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_quoted(value)}"' for name, value in labels) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quoted(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
