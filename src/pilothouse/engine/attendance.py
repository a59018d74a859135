"""Whether somebody can be asked: a job that a program began asks nobody who is not there."""

from __future__ import annotations

from collections.abc import Callable, Collection

from pilothouse.engine.records import JobRecord, SessionRecord

Knows = Callable[[SessionRecord, Collection[str]], bool]
"""Of this session: can one who may approve there be reached, whose account is not among these?"""
NOBODY = (
    "It has to be approved, and nobody who may approve it can be reached: a program began this job. It was denied at "
    "once and not performed. Go on without it, or end and say what has to be done by a person."
)
NO_ANSWER = "Nobody who could answer can be reached: a program began this job. Go on with your best judgement."


class Attendance:
    def __init__(self) -> None:
        self.ways: list[Knows] = []
        """Set by whoever knows who is there."""

    def missing(self, job: JobRecord | None, session: SessionRecord, besides: Collection[str] = ()) -> bool:
        """Whether there is nobody to ask. Of a job that a person began it is not asked: its answer may take a while."""
        return job is not None and job.headless and not any(knows(session, besides) for knows in self.ways)
