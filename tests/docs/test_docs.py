"""What the docs name exists: commands and their options, make targets, settings, addresses, error codes, links."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import pilothouse
from pilothouse import __main__ as program
from pilothouse import config
from pilothouse.cli.program import COMMANDS
from pilothouse.core.errors import PilothouseError
from pilothouse.web.routes import TABLE
from scripts import configuration

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("protocol/*.md")])
CLI = {command.name: command for command in COMMANDS}
OTHER_OPTIONS = {
    "serve": {"--host", "--port", "--behind-proxy", "--sandbox"},
    "config": {"--json"},
    "doctor": {"--escape"},
}
GLOBAL = {"--help", "--version"}
FILE = r"(?:^|[ \"])((?:src|scripts|tests|docs|protocol|examples|\.ci)/[\w./-]+)"
ADDRESS = r"(?<![\w.}])(?:\$URL)?(/(?:api\b|invoke\b|trigger\b|runtimes\b|event\b|ws\b|healthz|readyz)[\w/{}$?=&-]*)"


def pages() -> list[object]:
    return [pytest.param(path.read_text(), id=str(path.relative_to(ROOT))) for path in PAGES]


def code(page: str) -> list[str]:
    """Code as a page shows it: the lines of blocks, and spans."""
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL))
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines()] + spans


@pytest.mark.parametrize("page", pages())
def test_commands_and_options(page: str) -> None:
    for line in code(page):
        for words in re.findall(r"(?:^|[ (/])pilothouse ([a-z-][^|)`#]*)", line):
            name, *rest = words.split()
            if line.startswith(("git clone", "cd ")):
                continue
            if name in GLOBAL:
                continue
            command: click.Command | None = CLI.get(name)
            assert command is not None or name in {*program.PROGRAMS, *program.TOOLS}, words
            if isinstance(command, click.Group) and rest and not rest[0].startswith(("-", "[")):
                assert rest[0] in command.commands, words
                command = command.commands[rest[0]]
            known = {o for p in command.params for o in p.opts} if command else OTHER_OPTIONS.get(name, set())
            stripped = re.sub(r"\"[^\"]*\"", "", " ".join(rest))
            if name not in {"keeper", "proxy", "runner"}:
                assert set(re.findall(r"--[a-z][a-z0-9-]*", stripped)) <= known | GLOBAL, words


def test_every_command_is_in_the_readme_or_its_own_help() -> None:
    named = set(re.findall(r"^  ([a-z]+)  ", program.HELP, re.MULTILINE))
    assert {*CLI, *program.TOOLS, "serve"} == named


@pytest.mark.parametrize("page", pages())
def test_make_targets(page: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {name for line in code(page) for name in re.findall(r"(?:^|[ &])make ([a-z-]+)", line)}
    assert named <= targets


def test_the_package_is_installed_from_the_checkout_alone() -> None:
    """It is on no index, where the name may be anybody's; and only `-e` leaves what `make run` starts in its place."""
    texts = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *(ROOT / "src").rglob("*.py")]
    told = [line for text in texts for line in re.findall(r"pip install [^`\n]*", text.read_text())]
    assert [line for line in told if "otel" in line] == 2 * ["pip install -e '.[otel]'"]
    assert not [line for line in told if re.search(r"install (-\S+ )*['\"]?pilothouse", line)]


@pytest.mark.parametrize("page", pages())
def test_files_that_code_names(page: str) -> None:
    named = [
        w
        for line in code(page)
        for w in re.findall(r"(?:^|[ \"])((?:src|scripts|tests|docs|protocol|examples|\.ci)/[\w./-]+)", line)
    ]
    missing = [name for name in named if not (ROOT / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", pages())
def test_settings(page: str) -> None:
    settings = config.settings()
    environment = {f.metadata["env"] for f in settings} | {"PILOTHOUSE_CONFIG"}
    keys = {f.metadata["key"] for f in settings}
    sections = {key.partition(".")[0] for key in keys if key}
    lines = code(page)
    named = {w for line in lines for w in re.findall(r"\b(?:PILOTHOUSE|ANTHROPIC)_[A-Z_]+\b", line)}
    assert named <= environment
    dotted = {w for line in lines for w in re.findall(r"^([a-z]+\.[a-z_]+)\b", line) if w.partition(".")[0] in sections}
    dotted -= {f"{name}.{end}" for name in sections for end in ("json", "py", "sqlite", "toml", "md")}
    assert dotted <= keys


def test_every_setting_is_documented() -> None:
    page = configuration.PAGE.read_text()
    assert page == configuration.written(page), "run scripts/configuration.py"


def _shape(path: str) -> str:
    return re.sub(r"\{[^}]*\}|\$[A-Z_]+", "{}", path.partition("?")[0])


@pytest.mark.parametrize("page", pages())
def test_addresses(page: str) -> None:
    known = {_shape(entry.path) for entry in TABLE} | {"/api"}
    named = {_shape(w) for line in code(page) for w in re.findall(ADDRESS, line)}
    assert named <= known


def test_the_api_page_and_the_route_table_say_the_same() -> None:
    page = (ROOT / "protocol" / "http.md").read_text()
    documented = set()
    for row in re.findall(r"^\| (`.*?) \|", page, re.MULTILINE):
        path = ""
        for span in re.findall(r"`([^`]+)`", row):
            method, _, rest = span.partition(" ")
            if rest.startswith("/"):
                path = _shape(re.split(r"[ ?{]\"?(?=[\"?&=]|\{)", rest, maxsplit=1)[0].split(" ")[0])
            documented.add((method, path))
    table = {(entry.method, _shape(entry.path)) for entry in TABLE}
    assert documented == table


def test_error_codes() -> None:
    for module in pkgutil.walk_packages(pilothouse.__path__, "pilothouse."):
        if module.name.startswith(("pilothouse.web", "pilothouse.engine", "pilothouse.core")):
            importlib.import_module(module.name)
    page = (ROOT / "protocol" / "README.md").read_text()
    documented = {(c, int(s)) for c, s in re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", page, re.MULTILINE)}
    assert {(error.code, error.status) for error in _subclasses(PilothouseError)} <= documented
    doors = [path for part in ("core", "engine", "web") for path in (ROOT / "src" / "pilothouse" / part).glob("*.py")]
    sources = "".join(path.read_text() for path in doors)
    particular = set(re.findall(r'\bcode="([a-z_]+)"', sources))
    assert particular <= set(re.findall(r"`([a-z_]+)`", page))
    assert {c for c, _ in documented} <= set(re.findall(r'\bcode = "([a-z_]+)"', sources)) | particular, (
        "no longer used"
    )


def _subclasses(kind: type[PilothouseError]) -> Iterator[type[PilothouseError]]:
    for sub in kind.__subclasses__():
        if sub.__module__.startswith("pilothouse."):
            yield sub
            yield from _subclasses(sub)


@pytest.mark.parametrize("path", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_links(path: Path) -> None:
    page = path.read_text()
    for target in re.findall(r"\]\(([^)\s]+)\)", page):
        if target.startswith(("https://", "http://")):
            continue
        name, _, fragment = target.partition("#")
        file = (path.parent / name) if name else path
        assert file.exists(), target
        if fragment:
            titles = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert fragment in {re.sub(r"[^\w -]", "", t).lower().replace(" ", "-") for t in titles}, target
