"""The probe finds an agent that asks, and one that does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from pilothouse.adapters.agents.claude import program
from pilothouse.adapters.agents.claude.probe import probe


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
    monkeypatch.setenv("DISABLE_AUTOUPDATER", "1")


async def test_c18_this_version_asks() -> None:
    verdict = await probe()
    assert verdict.asks, verdict


async def test_c18_without_the_hook_the_probe_says_that_it_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    async def no_opinion(*_: object) -> dict[str, object]:
        return {}

    monkeypatch.setattr(program, "_always_ask", no_opinion)
    verdict = await probe()
    assert not verdict.asks and "not asked" in verdict.detail
