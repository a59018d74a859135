"""What every test may rely on, and two rules of the house.

* A test that skips because this machine lacks something gives a reason that begins with `needs ` (`needs package
  chromium`). In CI (`CI=true`) nothing may be lacking: such a skip is an error there.
* No process may outlive the tests. Every process started from here carries `PILOTHOUSE_TEST_RUN` in its environment
  or a path of this run on its command line; what is left at the end is named, ended, and fails the run.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Generator, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, settings

MARK = "PILOTHOUSE_TEST_RUN"
GRACE_S = 8.0
"""A process that is told to go at the end of the last test gets this long."""
NEEDS = "needs "


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A home of its own for a server under test."""
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def environment(home: Path) -> Iterator[dict[str, str]]:
    """For a Pilothouse program under test: its own home, a free port, no setting or credential of whoever runs it."""
    runtime = tempfile.mkdtemp(prefix="ph-", dir="/tmp")  # short: unix sockets live here
    own = ("PILOTHOUSE_", "ANTHROPIC_", "AWS_", "CLAUDE_")
    kept = {k: v for k, v in os.environ.items() if not k.startswith(own) or k == MARK}
    yield {**kept, "PILOTHOUSE_HOME": str(home), "PILOTHOUSE_RUNTIME": runtime, "PILOTHOUSE_PORT": "0"}
    shutil.rmtree(runtime, ignore_errors=True)


def pytest_configure(config: pytest.Config) -> None:
    os.environ.setdefault(MARK, uuid4().hex)  # the workers of xdist inherit it
    # As in CI, by hypothesis' own doing: what takes long on a machine that is busy elsewhere is still right.
    settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("busy")
    # Each client of httpx would read all authorities that the machine trusts, for 20 ms of a processor. What tests talk
    # to has authorities of their own, which they name.
    os.environ.pop("SSL_CERT_FILE", None)
    os.environ["SSL_CERT_DIR"] = os.fspath(Path(__file__).parent)


@pytest.hookimpl(trylast=True)
def pytest_collection_finish() -> None:
    """Thousands of tests and all that they import stay to the end: whoever collects garbage, which takes a third of a
    second with them, need not look at them again."""
    gc.collect()
    gc.freeze()


# --- nothing is skipped in CI for something that is missing -----------------------------------------------------------


def _forbid(report: pytest.TestReport | pytest.CollectReport) -> None:
    if os.environ.get("CI") != "true" or not report.skipped or not isinstance(report.longrepr, tuple):
        return
    path, line, reason = report.longrepr
    said = reason.removeprefix("Skipped: ")
    if said.startswith(NEEDS):
        report.outcome = "failed"
        report.longrepr = f"{path}:{line}: in CI nothing may be missing, but this test {said}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _forbid(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _forbid(report)
    return report


# --- no process outlives the tests ------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workerinput"):
        return  # a worker of xdist; the controller looks, once all are gone
    base = session.config._tmp_path_factory._basetemp  # type: ignore[attr-defined]  # None: nobody made a file
    signs = [f"{MARK}={os.environ[MARK]}".encode(), *([os.fsencode(base)] if base else [])]
    end = time.monotonic() + GRACE_S
    while (left := _left_over(signs)) and time.monotonic() < end:
        time.sleep(0.1)
    if not left:
        return
    lines = [f"process {pid} outlived the tests: {what}" for pid, what in left.items()]
    for pid in left:
        _end(pid)
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None:
        reporter.stats.setdefault("error", []).extend(_report(line) for line in lines)
    session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _report(line: str) -> pytest.TestReport:
    return pytest.TestReport("left over", ("left over", None, "left over"), {}, "failed", line, "teardown")


def _left_over(signs: list[bytes]) -> dict[int, str]:
    """Live processes that bear one of the signs, but for this one and those it descends from."""
    mine, found = _ancestors(), {}
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        if pid in mine:
            continue
        try:
            words = (entry / "cmdline").read_bytes()
            carried = (entry / "environ").read_bytes()
        except OSError:
            continue  # gone, or another user's
        if not words:
            continue  # a zombie
        if signs[0] in carried.split(b"\0") or any(sign in words for sign in signs):
            found[pid] = words.replace(b"\0", b" ").decode(errors="replace")[:200]
    return found


def _ancestors() -> set[int]:
    pid, seen = os.getpid(), set()
    while pid > 1 and pid not in seen:
        seen.add(pid)
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            break
    return seen


def _end(pid: int) -> None:
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGKILL)
