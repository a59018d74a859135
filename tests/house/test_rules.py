"""The rules that `tests/conftest.py` holds, seen to bite: pytest is run on small suites that break them."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"


def run(folder: Path, source: str, *, ci: bool, workers: int = 0) -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST.read_text().replace("GRACE_S = 8.0", "GRACE_S = 0.5"))
    (folder / "test_it.py").write_text(textwrap.dedent(source))
    environ = {k: v for k, v in os.environ.items() if k not in {"CI", "PILOTHOUSE_TEST_RUN"}}
    environ |= {"CI": "true"} if ci else {}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n", str(workers), "-c", "/dev/null"]
    done = subprocess.run(
        [*words, "--rootdir", str(folder), f"--basetemp={folder / 'base'}", str(folder)],
        env=environ,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout + done.stderr


IN_A_TEST = """
    import pytest

    def test_it():
        pytest.skip("needs package chromium")
"""
BY_MARK = """
    import pytest

    @pytest.mark.skipif(True, reason="needs user namespaces")
    def test_it(): ...
"""
AT_COLLECTION = """
    import pytest

    pytest.skip("needs package chromium", allow_module_level=True)
"""


@pytest.mark.parametrize("source", [IN_A_TEST, BY_MARK, AT_COLLECTION])
def test_a_skip_for_something_missing_is_an_error_in_ci(tmp_path: Path, source: str) -> None:
    status, said = run(tmp_path, source, ci=True)
    assert status != 0
    assert "in CI nothing may be missing" in said


@pytest.mark.parametrize("source", [IN_A_TEST, BY_MARK])
def test_elsewhere_it_is_a_skip(tmp_path: Path, source: str) -> None:
    status, said = run(tmp_path, source, ci=False)
    assert status == 0
    assert "1 skipped" in said


def test_another_reason_to_skip_stays_one_in_ci(tmp_path: Path) -> None:
    status, said = run(tmp_path, IN_A_TEST.replace("needs package chromium", "Linux only"), ci=True)
    assert status == 0
    assert "1 skipped" in said


LEAKS = """
    import subprocess, sys

    def test_it():
        code = "import time; print(1, flush=True); time.sleep(60)"
        left = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stdout=subprocess.PIPE)
        left.stdout.readline()  # a process that is just being started has no name yet
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_a_process_left_over_fails_the_run_and_is_ended(tmp_path: Path, workers: int) -> None:
    status, said = run(tmp_path, LEAKS, ci=False, workers=workers)
    assert status == 1
    assert "outlived the tests" in said
    assert "1 passed, 1 error" in said


def test_a_clean_run_stays_clean(tmp_path: Path) -> None:
    status, said = run(tmp_path, "def test_it(tmp_path): ...", ci=True, workers=1)
    assert status == 0, said
