"""The short form of `make fuzz-api`: every operation's examples, and a few made-up requests to each."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.schema import conduct
from tests.web.test_openapi import OPERATION

SEED = 1


def test_the_server_does_what_its_document_says(tmp_path: Path) -> None:
    ended = asyncio.run(conduct.run(tmp_path, seed=SEED, seconds=None, examples=3, phases="examples,fuzzing"))
    assert ended.status == 0, ended.said
    assert ended.left == ""
    known = len(OPERATION) - 1  # where it has the document from it does not ask again
    assert f"Selected: {known - len(conduct.AWAY)}/{known}" in ended.said, ended.said
