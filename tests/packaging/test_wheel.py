"""What an installation brings: the wheel, and the sdist from which others build it, hold the front end."""

from __future__ import annotations

import fcntl
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STATIC = "pilothouse/web/static"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the sdist and the wheel that was built from that sdist: once for all workers."""
    if not (ROOT / "src" / STATIC / "index.html").is_file():
        pytest.skip("needs the built front end: make setup")
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    out = shared / "dist"
    with (shared / "dist.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not list(out.glob("*.whl")):
            words = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
            done = subprocess.run(words, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stdout + done.stderr
    return out


def names(built: Path) -> tuple[set[str], set[str]]:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as z, tarfile.open(sdist) as t:
        return set(z.namelist()), {name.partition("/")[2] for name in t.getnames()}


def test_the_page_and_all_it_names_is_in_the_wheel(built: Path) -> None:
    wheel, _ = names(built)
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as z:
        page = z.read(f"{STATIC}/index.html").decode()
    used = re.findall(r'(?:src|href)="(?:\./|/)([^"#?]+)"', page)
    assert any(name.endswith(".js") for name in used), page
    assert {f"{STATIC}/{name}" for name in used} <= wheel


def test_the_wheel_is_the_package_and_nothing_else(built: Path) -> None:
    wheel, _ = names(built)
    tops = {name.partition("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"pilothouse"}
    assert any(name.endswith("dist-info/licenses/LICENSE") for name in wheel)
    assert "pilothouse/adapters/agents/claude/agent.py" in wheel


def test_the_sdist_has_the_sources_and_the_built_page_but_no_downloads(built: Path) -> None:
    _, sdist = names(built)
    assert {f"src/{STATIC}/index.html", "LICENSE", "README.md", "requirements.lock"} <= sdist
    assert "frontend/package.json" in sdist
    assert not [name for name in sdist if "node_modules" in name or name.startswith((".venv", ".make"))]


def test_the_wheel_declares_what_the_lock_pins(built: Path) -> None:
    (file,) = built.glob("*.whl")
    with zipfile.ZipFile(file) as z:
        (metadata,) = [name for name in z.namelist() if name.endswith("dist-info/METADATA")]
        lines = z.read(metadata).decode().splitlines()
    wanted = {
        re.split(r"[<>=!~ ;\[]", line.removeprefix("Requires-Dist: "))[0]
        for line in lines
        if "Requires-Dist" in line and "extra ==" not in line
    }
    pinned = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert wanted <= pinned
    assert not [name for name in wanted if "nodejs" in name]
