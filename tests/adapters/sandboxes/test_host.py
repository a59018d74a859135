"""Without a sandbox: the same holder and runner, no isolation claimed, and still nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import uuid
from pathlib import Path

from pilothouse.adapters.sandboxes.host import Host
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import SandboxSpec
from tests.adapters.sandboxes.conftest import processes, until
from tests.adapters.sandboxes.test_bubblewrap import holder_pid, listeners


async def test_it_says_what_it_is(host: Host) -> None:
    found = await host.probe()
    assert (found.isolation, found.usable) == ("none", True)
    assert "NOT ISOLATED" in found.summary


async def test_the_runner_runs_with_listeners_of_its_own(host: Host, base: Path, session: SessionId) -> None:
    await host.open(SandboxSpec(session, "echo"))
    model, egress = listeners(base, session)
    env = str((await host.run(session, ["env"], {}, 10))["output"])
    assert f"ANTHROPIC_BASE_URL=http://127.0.0.1:{model.getsockname()[1]}\n" in env
    assert f"HTTPS_PROXY=http://127.0.0.1:{egress.getsockname()[1]}\n" in env
    model.close()
    egress.close()
    await host.runner(session)
    wire = await host.connect(session)
    assert json.loads(await wire.receive() or b"")["hello"]["agent"] == "echo"
    await wire.close()


async def test_the_end_of_the_holder_is_the_end_of_all(host: Host, base: Path, session: SessionId) -> None:
    await host.open(SandboxSpec(session, "echo"))
    mark = f"7{uuid.uuid4().int % 10**9}"
    await host.run(session, ["sh", "-c", f"setsid nohup sleep {mark} >/dev/null 2>&1 &"], {}, 10)
    await until(lambda: bool(processes(mark)))
    os.kill(await holder_pid(base, session), signal.SIGKILL)
    await until(lambda: not processes(mark))
