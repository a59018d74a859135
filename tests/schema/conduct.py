"""schemathesis over the whole OpenAPI document, on the real server with the echo agent.

What counts is what the document promises: no answer is a 500, none has a status, a type or a form that is not in it,
what is wrong by the schema is refused, and a method that is not there is answered with those that are. Who may not come
in is not asked here: `tests/web/test_routes.py` asks every route as nobody.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.journeys.program import Program, installation

ROOT = Path(__file__).parents[2]
CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "unsupported_method", "allow_header_conformance",
)  # fmt: skip
AWAY = (
    "/api/signin/oidc/{provider}", "/api/signin/oidc/{provider}/callback", "/api/sessions/{id}/network/stream",
)  # fmt: skip
"""A browser's own ways, and what has no end: both have tests of their own."""
BROKEN = re.compile(r'Traceback|"level": ?"(error|critical)"')
SCRIPT = "say hello\nwrite a.txt hello\nrun npm test\n"


@dataclass
class Ended:
    status: int
    said: str
    left: str
    """Of the server's log: what it should not have said."""

    @property
    def cases(self) -> int:
        found = re.search(r"(\d[\d,]*) generated", self.said)
        return int(found[1].replace(",", "")) if found else 0


@contextlib.asynccontextmanager
async def house() -> AsyncIterator[tuple[Program, dict[str, str]]]:
    """The server, and what there is in it to aim at."""
    async with (
        installation(demo=False, PILOTHOUSE_AGENT="echo", PILOTHOUSE_RATE_PER_S="0", PILOTHOUSE_QUOTA_PER_DAY="0") as (
            program,
            _,
        ),
        program.http() as http,
    ):
        yield program, await _furnished(http)


async def _furnished(http: httpx.AsyncClient) -> dict[str, str]:
    session = (await http.post("/api/sessions", json={"title": "aim", "permissionMode": "acceptEdits"})).json()
    job = (await http.post(f"/api/sessions/{session['id']}/jobs", json={"prompt": SCRIPT})).json()
    waiting: list[dict[str, Any]] = []
    async with asyncio.timeout(60):
        while not waiting:
            waiting = (await http.get("/api/approvals")).json()["items"]
            await asyncio.sleep(0.05)
    own = (await http.get("/api/me")).json()["principal"]["id"]
    approval = waiting[0]["approvalId"]
    return {"sessions": session["id"], "jobs": job["id"], "approvals": approval, "own": own}


async def run(place: Path, *, seed: int, seconds: int | None, examples: int, phases: str) -> Ended:
    """One run; with `seconds` what is made up is repeated for so long."""
    async with house() as (program, aim):
        words = [
            sys.executable, "-m", "schemathesis.cli", "run", f"{program.url}/openapi.json",
            "--header", f"x-api-key: {program.key}", "--seed", str(seed), "--max-examples", str(examples),
            "--phases", phases, "--checks", ",".join(CHECKS), "--workers", "1",
            "--continue-on-failure", "--request-timeout", "20", "--no-color", "--warnings", "off",
            "--suppress-health-check", "all",
        ]  # fmt: skip
        words += ["--max-time", str(seconds)] if seconds is not None else []
        for path in AWAY:
            words += ["--exclude-path", path]
        env = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.schema.hooks", "PILOTHOUSE_TEST_AIM": json.dumps(aim)}
        env["PYTHONPATH"] = os.pathsep.join([str(ROOT), *(p for p in sys.path if p)])
        child = await asyncio.create_subprocess_exec(
            *words, cwd=place, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            stdin=asyncio.subprocess.DEVNULL,
        )  # fmt: skip
        try:
            said = (await child.communicate())[0].decode(errors="replace")
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        async with program.http() as http:
            assert (await http.get("/api/me")).status_code == 200, "it has ended its own credential, or the server"
        lines = program.log.read_text().splitlines()
        assert child.returncode is not None
        return Ended(child.returncode, said, "\n".join(line for line in lines if BROKEN.search(line)))
