"""docs/appsync.md as it stands: its handler between its publishers and its page."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from pilothouse.adapters.hooks.python import PythonHook
from pilothouse.core import namespaces
from pilothouse.core.access import SCOPES
from pilothouse.engine.handlers import Handlers
from pilothouse.engine.hooks import Bounded
from tests.web.amplify import MISSING, MODULES, NODE, REASON
from tests.web.serving import serving

PAGE = (Path(__file__).parents[2] / "docs" / "appsync.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PLAIN, TABLE = [text for kind, text in BLOCKS if kind == "toml"]
SCRIPT, SOCKET = [text for kind, text in BLOCKS if kind == "js"]
PUBLISHER, HANDLER = [text for kind, text in BLOCKS if kind == "python"]
COMMANDS = [text for kind, text in BLOCKS if kind == ""]

pytestmark = pytest.mark.skipif(MISSING, reason=REASON)
pytest.importorskip("aws_lambda_powertools", reason="needs package aws-lambda-powertools")


def handler() -> PythonHook:
    module = ModuleType("handlers")
    exec(compile(HANDLER, "handlers.py", "exec"), module.__dict__)
    return PythonHook("handlers:handler", module.__dict__["handler"])


def test_the_files_are_run_by_the_names_that_they_have() -> None:
    for name, command in (("page.mjs", "node page.mjs\n"), ("publisher.py", "python3 publisher.py\n")):
        assert f"`{name}`" in PAGE
        assert any(command in block for block in COMMANDS)
    assert "`handlers.py`" in PAGE
    assert 'on_publish = "handlers:handler"' in TABLE


def test_the_handler_is_all_that_is_added() -> None:
    [before], [after] = (namespaces.read(tomllib.loads(text)["namespaces"]) for text in (PLAIN, TABLE))
    assert before == dataclasses.replace(after, on_publish="")


async def test_the_blocks_of_the_page_do_what_it_says(tmp_path: Path) -> None:
    tables = namespaces.read(tomllib.loads(TABLE)["namespaces"])
    made = Handlers({tables[0].on_publish: Bounded(handler())})
    async with serving(namespaces=tables, handlers=made) as served:
        record, secret = await served.platform.pairs.create("publisher", SCOPES, account="local")
        (tmp_path / "node_modules").symlink_to(MODULES)
        (tmp_path / "page.mjs").write_text(SOCKET + SCRIPT)
        (tmp_path / "publisher.py").write_text(PUBLISHER)
        env = {
            "PATH": os.environ["PATH"],
            "ENDPOINT": f"HTTP://127.0.0.1:{served.port}/event",
            "KEY": await served.key(),
        }
        assert NODE is not None
        page = await asyncio.create_subprocess_exec(NODE, "page.mjs", cwd=tmp_path, env=env, stdout=-1, stderr=-1)
        try:
            assert page.stdout is not None
            first = await asyncio.wait_for(page.stdout.readline(), 60)
            assert first, (await page.communicate())[1].decode()[-2000:]
            assert json.loads(first) == {"text": "HELLO"}
            env |= {
                "AWS_ACCESS_KEY_ID": record.id,
                "AWS_SECRET_ACCESS_KEY": secret.secret_access_key, "AWS_EC2_METADATA_DISABLED": "true",
                "HOME": str(tmp_path), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            }  # fmt: skip
            publisher = await asyncio.create_subprocess_exec(
                sys.executable, "publisher.py", cwd=tmp_path, env=env, stdout=-1, stderr=-1
            )
            out, err = await asyncio.wait_for(publisher.communicate(), 60)
            assert out.startswith(b"200 "), err.decode()[-2000:]
            second = json.loads(await asyncio.wait_for(page.stdout.readline(), 60))
            assert second == {"type": "stream", "text": "HELLO"}
        finally:
            if page.returncode is None:
                page.kill()
            await page.wait()
            await made.close()
