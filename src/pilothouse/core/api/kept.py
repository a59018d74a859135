"""What jobs leave behind: artifacts, and what was used."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from pilothouse.core import invoke
from pilothouse.core.api.base import Answer, Body, Id, Sha256, Size, Time
from pilothouse.core.tally import Row


class JobArtifact(Answer, frozen=True, kw_only=True):
    """A file that a job made or changed, as it was when the job ended."""

    id: Id
    session_id: Id
    job_id: Id
    path: Annotated[str, Meta(description="Relative to the workspace; the agent's own words.")]
    size: Size
    media_type: Annotated[str, Meta(description="By the name alone.")]
    prefix: Annotated[str, Meta(description="What its copies are stored under.")]
    created_at: Time
    state: Annotated[
        str,
        Meta(
            description="`waiting`: kept here, on its way to where it is stored; `skipped`: not kept, see `reason`.",
            extra_json_schema={"enum": ["stored", "waiting", "skipped"]},
        ),
    ]
    url: Annotated[str | None, Meta(description="Where its bytes are; null for one that was not kept.")]
    s3_url: str | None
    console_url: str | None
    sha256: str = ""
    tool_id: Annotated[str | None, Meta(description="The tool call that made it, as far as the log tells.")] = None
    reason: str | None = None


class NewArtifactLink(Body, kw_only=True):
    expires_in_s: Annotated[int, Meta(description="Seconds.", extra_json_schema={"minimum": 1, "maximum": 900})] = 300


class ArtifactLink(Answer, frozen=True, kw_only=True):
    """An address that is the credential for one artifact, for a while."""

    url: str
    expires_at: int

    def __repr__(self) -> str:
        return "ArtifactLink()"


class UsageReport(Answer, frozen=True, kw_only=True):
    """What was used, by the fields that were asked for. Days are UTC."""

    first: str = field(name="from")
    to: str
    by: list[str]
    organisation: str
    whose: Annotated[str, Meta(extra_json_schema={"enum": ["own", "organisation"]})]
    items: list[Row]
    total: Row
    next: None


class Invocation(invoke.Wish, frozen=True, kw_only=True):
    """A prompt as a program gives it; the same inside `{"input": {…}}` is as good."""


class Invoked(invoke.Answer, frozen=True):
    """How the job ended."""


__all__ = ["ArtifactLink", "Invocation", "Invoked", "JobArtifact", "NewArtifactLink", "Sha256", "UsageReport"]
