"""The real agent where the host gives no namespaces: refused, or run with less isolation by who says so, and told."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import landlock
from tests.adapters.sandboxes import lesser_host
from tests.journeys.program import Program

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can make this host give less than it does"),
    pytest.mark.skipif(landlock.abi() < 2, reason="needs a kernel with Landlock"),
]


@pytest.fixture
async def lesser() -> AsyncIterator[Program]:
    with tempfile.TemporaryDirectory(prefix="ph-") as name:
        home = Path(name)
        home.chmod(0o755)
        made = Program(home)
        made.prefix = [sys.executable, lesser_host.__file__, "no-userns"]
        yield made
        await made.stop()


async def test_without_namespaces_nothing_runs_until_a_person_allows_less(lesser: Program) -> None:
    await lesser.start()
    async with lesser.http() as http:
        refused = await http.post("/api/sessions", json={"agent": "claude"})
        assert refused.status_code == 503
        assert "does not let ordinary users make namespaces" in refused.text
        found = (await http.get("/api/me")).json()["server"]
        assert found["isolation"] == "none"
        assert any("sandbox.allow_reduced" in line for line in found["isolationFindings"])
    await lesser.stop()
    lesser.env["PILOTHOUSE_ALLOW_REDUCED"] = "true"
    await lesser.start()
    assert "REDUCED isolation" in lesser.log.read_text()
    async with lesser.http() as http:
        found = (await http.get("/api/me")).json()["server"]
        assert found["isolation"] == "reduced"
        assert "REDUCED isolation" in found["isolationSummary"]
        assert "no network besides the model" in found["isolationSummary"]
    status, out, err = await lesser.cli(
        "run", "--json", "--permission-mode", "acceptAll", "Write a small program and run it"
    )
    assert status == 0, err
    events = [json.loads(line) for line in out.splitlines()]
    assert {e["isolation"] for e in events if e["type"] == "session"} == {"reduced"}
    assert any("25 primes below 100" in e["result"] for e in events if e["type"] == "tool_result")
    assert [e["outcome"] for e in events if e["type"] == "complete"] == ["succeeded"]
    usage = [e for e in events if e["type"] == "usage"]
    assert usage[-1]["measured"] == "proxy"
    session = next(e["sessionId"] for e in events if e["type"] == "session")
    status, out, _ = await lesser.cli("logs", session)
    assert "isolation: reduced (the agent is not fully separated from this machine)" in out
    status, out, _ = await lesser.cli("files", session)
    assert "primes.py" in out
