"""Keys of artifacts, and which call made a file."""

from __future__ import annotations

import pytest

from pilothouse.core import artifact
from pilothouse.core.artifact import Makers


def spoken(*commands: str) -> Makers:
    makers = Makers("/workspace")
    for n, command in enumerate(commands):
        makers.began(f"t{n}", "execute", {"command": command}, (), 0.0)
        makers.ended(f"t{n}", 1.0)
    makers.began("other", "execute", {}, (), 0.0)  # so that time alone does not decide
    makers.ended("other", 1.0)
    return makers


@pytest.mark.parametrize(
    "command",
    ["python app.py", "cat >src/app.py", "open('app.py')", "x --out=app.py", "ls app.py:12", "echo {app.py,b}"],
)
def test_a_command_that_speaks_of_a_file(command: str) -> None:
    assert spoken(command).of("src/app.py", 0.5) == "t0"


@pytest.mark.parametrize("command", ["cat myapp.pyc", "cat app.pyc", "cat my-app.py", "ls"])
def test_a_command_that_does_not(command: str) -> None:
    assert spoken(command).of("src/app.py", 0.5) is None


def test_the_last_that_speaks_of_it_and_quoted_names_with_spaces() -> None:
    makers = spoken("touch a.txt", "rm 'docs/my file.txt'", "touch a.txt b.txt")
    assert (makers.of("a.txt", 0.5), makers.of("docs/my file.txt", 0.5)) == ("t2", "t1")


def test_what_a_command_leaves_to_be_looked_at_is_bounded() -> None:
    makers = spoken("a" * 100_000, " ".join(f"word{n}" for n in range(10_000)))
    held = [sum(map(len, call.words)) for call in makers.calls.values()]
    assert max(held) <= artifact.WORDS_MAX * 255
    assert makers.of("aaa", 0.5) is None


def test_no_name_is_the_key_that_another_was_given() -> None:
    given = artifact.key("outputs/x/", "x" * 300).removeprefix("outputs/x/")
    assert artifact.key("outputs/x/", given) != f"outputs/x/{given}"
