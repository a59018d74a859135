"""What jobs made, by the real programs: a job that ends while the server is dead, the command line, the page."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from playwright.async_api import expect

from pilothouse.adapters.sandboxes.treewalk import FOUND_MAX
from pilothouse.core.storing import ArtifactSettings
from pilothouse.engine.artifacts import SKIPPED_MAX
from tests.journeys.program import Program, installation
from tests.journeys.test_page import WAIT, browser, sign_in

pytestmark = pytest.mark.asyncio(loop_scope="module")
SPARSE = 5 * 1024**3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program() -> AsyncIterator[Program]:
    async with installation() as (made, _):
        yield made


async def job(program: Program, session: str, prompt: str) -> str:
    async with program.http() as http:
        body = {"prompt": prompt, "permissionMode": "acceptAll"}
        made = await http.post(f"/api/sessions/{session}/jobs", json=body)
        assert made.status_code == 202, made.text
        return str(made.json()["id"])


async def session(program: Program) -> str:
    async with program.http() as http:
        return str((await http.post("/api/sessions", json={"agent": "echo"})).json()["id"])


async def done(program: Program, job_id: str) -> str:
    async with program.http() as http:
        for _ in range(600):
            found = (await http.get(f"/api/jobs/{job_id}")).json()
            if found["state"] == "done":
                return str(found["outcome"])
            await asyncio.sleep(0.05)
    raise AssertionError("the job did not end")


async def test_failed_and_interrupted_jobs_have_their_files(program: Program, tmp_path: Path) -> None:
    chat = await session(program)
    failed = await job(program, chat, "write a.txt one\nfail on purpose")
    assert await done(program, failed) == "failed"
    stopped = await job(program, chat, "write b.txt two\nsleep 60")
    async with program.http() as http:
        while b"two" not in (await http.get(f"/api/sessions/{chat}/files/content?path=b.txt")).content:
            await asyncio.sleep(0.05)
        await http.post(f"/api/jobs/{stopped}/interrupt")
    assert await done(program, stopped) == "interrupted"
    for number, name, text in ((failed, "a.txt", "one"), (stopped, "b.txt", "two")):
        status, out, err = await program.cli("files", number)
        assert (status, out.split()[-1]) == (0, name), err
        status, _, err = await program.cli("files", number, "--out", str(tmp_path))
        assert (status, (tmp_path / name).read_text()) == (0, text), err


async def test_a_job_that_ends_while_the_server_is_dead_has_its_files(program: Program) -> None:
    chat = await session(program)
    number = await job(program, chat, "write before.txt x\nsleep 1\nwrite after.txt y")
    async with program.http() as http:
        while b"x" not in (await http.get(f"/api/sessions/{chat}/files/content?path=before.txt")).content:
            await asyncio.sleep(0.05)
    await program.kill(signal.SIGKILL)
    await program.start()
    assert await done(program, number) == "succeeded"
    async with program.http() as http:
        items = (await http.get(f"/api/jobs/{number}/artifacts")).json()["items"]
        events = (await http.get(f"/api/jobs/{number}/events")).json()["events"]
    assert [item["path"] for item in items] == ["after.txt", "before.txt"]
    assert [event["type"] for event in events][-3:] == ["artifact", "artifact", "complete"]
    assert all(item["toolId"] for item in items)


async def test_among_a_hundred_thousand_files_those_of_the_job_are_found(program: Program) -> None:
    chat = await session(program)
    many = "for d in range(100): os.mkdir(str(d)); [open(f'{d}/{n}', 'x').close() for n in range(1000)]"
    script = f"import os\n{many}\nos.truncate(os.open('a.img', os.O_CREAT | os.O_WRONLY), {SPARSE})"
    first = await job(program, chat, f"run python3 -c {shlex.quote(f'exec({script!r})')}")
    assert await done(program, first) == "succeeded"
    second = await job(program, chat, "write 50/500 changed\nwrite new.txt new")
    assert await done(program, second) == "succeeded"
    async with program.http() as http:
        made = (await http.get(f"/api/jobs/{first}/artifacts")).json()["items"]
        last = (await http.get(f"/api/jobs/{first}")).json()["lastSeq"]
        said = (await http.get(f"/api/jobs/{first}/events?after={last - 2}")).json()["events"]
        changed = (await http.get(f"/api/jobs/{second}/artifacts")).json()["items"]
    assert sum(item["state"] == "stored" for item in made) == ArtifactSettings().artifacts_files_max
    assert [item["reason"] for item in made if item["state"] == "skipped"] == ["too_many"] * SKIPPED_MAX
    assert [event["type"] for event in said] == ["error", "complete"]
    assert said[0]["code"] == "artifacts_skipped"
    assert "(too_large): a.img;" in said[0]["message"]
    assert f" and {FOUND_MAX - 1 - ArtifactSettings().artifacts_files_max - 3} more;" in said[0]["message"]
    assert said[0]["message"].endswith("the workspace has more files than are looked at.")
    assert [(item["path"], item["size"], item["state"]) for item in changed] == [
        ("50/500", 7, "stored"), ("new.txt", 3, "stored"),
    ]  # fmt: skip


async def test_a_person_finds_and_downloads_what_a_job_made(program: Program) -> None:
    chat = await session(program)
    steps = [f"write report-{n:02}.md text {n}" for n in range(12)]
    number = await job(program, chat, "\n".join(["say Here are the files.", *steps]))
    assert await done(program, number) == "succeeded"
    async with browser() as chromium:
        context = await chromium.new_context(accept_downloads=True)
        page, _ = await sign_in(context, program)
        await page.get_by_test_id("session-row").first.click()
        card = page.get_by_test_id("artifacts")
        await expect(card).to_have_accessible_name("12 files made or changed", timeout=WAIT)
        await expect(card.get_by_role("listitem")).to_have_count(8)
        await card.get_by_role("button", name="Show 4 more files").press("Enter")
        await expect(card.get_by_role("listitem")).to_have_count(12)
        async with page.expect_download() as one:
            await card.get_by_role("link", name="Download report-03.md 6 B").click()
        assert (await (await one.value).path()).read_bytes() == b"text 3"
        async with page.expect_download() as every:
            await card.get_by_role("link", name="Download all as zip").click()
        assert (await every.value).suggested_filename == f"{number}.zip"
        if shots := os.environ.get("PILOTHOUSE_TEST_SHOTS"):
            for scheme in ("light", "dark"):
                for width in (1280, 390):
                    await page.emulate_media(color_scheme=scheme)
                    await page.set_viewport_size({"width": width, "height": 900})
                    await card.scroll_into_view_if_needed()
                    await page.screenshot(path=f"{shots}/artifacts-{scheme}-{width}.png")
