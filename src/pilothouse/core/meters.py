"""Counters and histograms: plain numbers by label values, summed up when somebody asks.

A meter belongs to one event loop: adding is a look-up and an addition, without a lock. No meter grows without end: it
has at most `most` combinations of label values, and whatever comes beyond is counted under `other`. So a word that
comes from outside (a model's name) may be a label and cannot fill the memory of whoever collects.
"""

from __future__ import annotations

from bisect import bisect_left

from pilothouse.core.exposition import Family, Sample, number

MOST = 400
"""Combinations of label values of one meter: routes by method and status are the most of ours."""
OTHER = "other"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Of what answers at once, or should."""
LONG = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""Of what an agent, a model or a person takes."""

Values = tuple[str, ...]


class Counter:
    __slots__ = ("_by", "_most", "help", "labels", "name")

    def __init__(self, name: str, help: str, *labels: str, most: int = MOST) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self._most = most
        self._by: dict[Values, float] = {} if labels else {(): 0}

    def add(self, values: Values = (), by: float = 1) -> None:
        known = self._by
        if values in known:
            known[values] += by
        elif len(known) < self._most:
            known[values] = by
        else:
            other = (OTHER,) * len(values)
            known[other] = known.get(other, 0) + by

    def value(self, *values: str) -> float:
        return self._by.get(values, 0)

    @property
    def total(self) -> float:
        return sum(self._by.values())

    def family(self) -> Family:
        samples = [Sample(n, tuple(zip(self.labels, v, strict=True))) for v, n in sorted(self._by.items())]
        return Family(self.name, "counter", self.help, samples)


class Histogram:
    __slots__ = ("_by", "_most", "bounds", "help", "labels", "name")

    def __init__(
        self, name: str, help: str, *labels: str, bounds: tuple[float, ...] = SECONDS, most: int = MOST
    ) -> None:
        self.name = name
        self.help = help
        self.labels = labels
        self.bounds = bounds
        self._most = most
        self._by: dict[Values, list[float]] = {}
        """Counts by bucket, the one above all bounds after them, then the sum."""
        if not labels:
            self._by[()] = self._empty()

    def _empty(self) -> list[float]:
        return [0] * (len(self.bounds) + 2)

    def add(self, seconds: float, values: Values = ()) -> None:
        row = self._by.get(values)
        if row is None:
            if len(self._by) >= self._most:
                values = (OTHER,) * len(values)
            row = self._by.setdefault(values, self._empty())
        row[bisect_left(self.bounds, seconds)] += 1
        row[-1] += seconds

    def count(self, *values: str) -> float:
        return sum(self._by.get(values, self._empty())[:-1])

    def family(self) -> Family:
        return Family(self.name, "histogram", self.help, [s for v in sorted(self._by) for s in self._samples(v)])

    def _samples(self, values: Values) -> list[Sample]:
        row = self._by[values]
        labels = tuple(zip(self.labels, values, strict=True))
        out: list[Sample] = []
        below: float = 0
        for bound, n in zip((*self.bounds, float("inf")), row, strict=False):
            below += n
            out.append(Sample(below, (*labels, ("le", number(bound))), "_bucket"))
        return [*out, Sample(row[-1], labels, "_sum"), Sample(below, labels, "_count")]
