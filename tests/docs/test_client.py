"""docs/client.md and examples/client.py as they stand, against the real program."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import sys
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from pilothouse.client import Client
from pilothouse.client import client as module
from tests.journeys.program import Program, installation

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def program() -> AsyncIterator[Program]:
    async with installation(demo=False, PILOTHOUSE_AGENT="echo") as (made, _):
        yield made


@pytest.mark.asyncio(loop_scope="module")
async def test_the_snippets_run_as_they_stand(program: Program, capsys: pytest.CaptureFixture[str]) -> None:
    """One after another, as somebody reads them: the first opens what the others use."""
    first, *others = SNIPPETS
    opened = first.rstrip() + "\n    seen = 0\n" + textwrap.indent("\n".join(others), "    ")
    source = "async def page(url, key):\n" + textwrap.indent(opened, "    ")
    names: dict[str, object] = {}
    exec(compile(ast.parse(source), "docs/client.md", "exec"), names)
    await asyncio.wait_for(names["page"](program.url, program.key), 60)  # type: ignore[operator]
    assert "Which test is the slowest?" in capsys.readouterr().out, "the echo agent says what it is told"
    assert len(others) == 5


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("answer", "told"), [("y", "succeeded"), ("n", "succeeded")])
async def test_the_example_runs_as_it_stands(program: Program, answer: str, told: str) -> None:
    env = {**program.env, "PILOTHOUSE_URL": program.url, "PILOTHOUSE_API_KEY": program.key}
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "client.py"), "say hello\nwrite a.txt 12345\nrun echo from-a-command",
        env=env, stdin=-1, stdout=-1, stderr=-1,
    )  # fmt: skip
    try:
        out, err = await asyncio.wait_for(child.communicate(f"{answer}\n".encode()), 60)
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode == 0, err.decode()
    said = out.decode()
    assert "hello" in said
    assert "approve? [y/n]" in said
    assert told in said
    assert "a.txt" in said
    assert program.key not in said + err.decode()


async def failed(*arguments: str, **env: str) -> str:
    """What the example says when it does not work."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), **env}
    child = await asyncio.create_subprocess_exec(
        sys.executable, str(ROOT / "examples" / "client.py"), *arguments, env=env, stdin=-3, stdout=-1, stderr=-1
    )
    _, err = await asyncio.wait_for(child.communicate(), 60)
    assert child.returncode == 1
    return err.decode()


async def test_the_example_says_what_is_missing() -> None:
    given = {"PILOTHOUSE_URL": "http://127.0.0.1:1", "PILOTHOUSE_API_KEY": "x"}
    told = "No Pilothouse server answers at http://127.0.0.1:1: Connection refused\n"
    assert await failed("hello", **given) == told
    assert await failed(**given) == "Say what is to be done: examples/client.py PROMPT\n"
    keyless = await failed("hello", **given | {"PILOTHOUSE_API_KEY": ""})
    assert keyless == "PILOTHOUSE_API_KEY is not set. `.venv/bin/pilothouse keys create --plain` prints a key.\n"


@pytest.mark.asyncio(loop_scope="module")
async def test_the_example_leaves_a_question_that_nobody_is_there_for(program: Program) -> None:
    err = await failed("run echo x", **program.env, PILOTHOUSE_URL=program.url, PILOTHOUSE_API_KEY=program.key)
    assert re.fullmatch(
        r"\nNobody is here to answer\. The job waits: `pilothouse approve [0-9a-f-]{36}`, or `deny`\.\n", err
    )


def test_the_page_names_every_part_and_method() -> None:
    rows = [row for row in PAGE.splitlines() if row.startswith("| `client.")]
    parts = {name: type(part) for name, part in vars(Client("http://x")).items() if name != "transport"}
    for name, kind in parts.items():
        row = next(row for row in rows if f"`client.{name}`" in row)
        alone = row.partition("|")[2].partition("|")[0].count("client.") == 1
        methods = {m for m in vars(kind) if not m.startswith("_")}
        assert not alone or methods <= set(re.findall(r"`(\w+)`", row)), (name, methods)
    assert module.__doc__
