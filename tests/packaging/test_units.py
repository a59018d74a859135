"""The service files say what the programs understand, and what docs/install.md promises of them."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
NAMES = ("pilothouse", "pilothouse-keeper")


def unit(name: str) -> list[tuple[str, str]]:
    """The settings of a unit, in order; a name may come more than once."""
    lines = (UNITS / f"{name}.service").read_text().splitlines()
    pairs = [line.partition("=") for line in lines if line and line[0] not in "#["]
    return [(key, value) for key, _, value in pairs]


def command(name: str) -> list[str]:
    """What it runs, after the path of `pilothouse`."""
    (line,) = [value for key, value in unit(name) if key == "ExecStart"]
    return shlex.split(line)[1:]


def environment(name: str) -> dict[str, str]:
    words = [word for key, value in unit(name) if key == "Environment" for word in shlex.split(value)]
    return dict(word.split("=", 1) for word in words)


@pytest.mark.parametrize("name", NAMES)
def test_systemd_takes_them(name: str, tmp_path: Path) -> None:
    assert dict(unit(name))["Restart"] == "always"
    if (analyze := shutil.which("systemd-analyze")) is None:
        return  # what follows is systemd's own opinion
    text = (UNITS / f"{name}.service").read_text().replace("/opt/pilothouse/.venv/bin/pilothouse", sys.executable)
    (tmp_path / f"{name}.service").write_text(text.replace("pilothouse-keeper.service", "basic.target"))
    done = subprocess.run(
        [analyze, "verify", "--man=no", tmp_path / f"{name}.service"], capture_output=True, text=True, check=False
    )
    own = [line for line in done.stderr.splitlines() if f"{name}.service" in line]
    assert own == []


@pytest.mark.parametrize("name", NAMES)
def test_the_programs_know_every_option(name: str) -> None:
    program, *words = command(name)
    done = subprocess.run(
        [sys.executable, "-m", "pilothouse", program, "--help"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not [word for word in words if word.startswith("--") and word not in done.stdout]


def test_every_setting_is_one() -> None:
    from pilothouse import config

    known = {f.metadata["env"] for f in config.settings()} | {"PILOTHOUSE_CONFIG"}
    assert set(environment("pilothouse")) <= known


def test_they_agree_with_each_other_and_with_the_directories() -> None:
    words = command("pilothouse-keeper")
    told = environment("pilothouse")
    assert words[words.index("--home") + 1] == told["PILOTHOUSE_HOME"]
    assert words[words.index("--runtime") + 1] == told["PILOTHOUSE_RUNTIME"]
    assert words[words.index("--user") + 1] == dict(unit("pilothouse"))["User"]
    made = [line.split() for line in (UNITS / "pilothouse.tmpfiles").read_text().splitlines() if line[0] != "#"]
    modes = {path: mode for _, path, mode, *_ in made}
    assert modes[told["PILOTHOUSE_HOME"]] == modes[told["PILOTHOUSE_RUNTIME"]] == "1770"


def test_sessions_outlive_a_restart_of_either() -> None:
    settings = dict(unit("pilothouse-keeper"))
    assert settings["KillMode"] == "process"
    assert settings["Delegate"] == "yes"
    assert not {"StateDirectory", "RuntimeDirectory", "PrivateTmp"} & set(settings), "they would take sessions' files"
    assert dict(unit("pilothouse"))["CapabilityBoundingSet"] == ""
