"""What comes out of a session is read with suspicion, and what may fail is held against the table."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pilothouse.adapters.sandboxes.escape import examine, profiles, suite
from pilothouse.adapters.sandboxes.escape.attempt import BLOCKED, OPEN, SKIPPED, Verdict
from pilothouse.core.errors import Unavailable


def said(**verdicts: str) -> dict[str, Any]:
    lines = [json.dumps({"id": name.replace("_", ".", 1), "verdict": v, "why": "w"}) for name, v in verdicts.items()]
    return {"exit": "exit 0", "output": "\n".join(lines)}


def test_a_check_without_an_answer_has_failed() -> None:
    found = {v.id: v.state for v in examine._read("cgroup", said(c_paths=BLOCKED))}
    assert found == {"c.write": OPEN, "c.paths": BLOCKED}


def test_strange_lines_and_unknown_checks_and_states_are_no_answers() -> None:
    strange = {"exit": "exit 0", "output": '[]\n{"id": 1}\nnull\n{"id"\n{"id":"c.write","verdict":"fine","why":""}\n'}
    strange["output"] += str(said(c_paths=BLOCKED, x_y=BLOCKED)["output"])
    assert {v.id: v.state for v in examine._read("cgroup", strange)} == {"c.write": OPEN, "c.paths": BLOCKED}


def test_no_answer_at_all_is_an_error() -> None:
    with pytest.raises(Unavailable, match="refused: this is root"):
        examine._read("cgroup", {"exit": "exit 2", "output": "escape suite: refused: this is root\n"})


def test_what_a_canary_noticed_counts_more_than_what_the_check_says() -> None:
    noticed = examine._noticed(Verdict("s.unix", BLOCKED), {"s.unix": "somebody came"})
    assert noticed == Verdict("s.unix", OPEN, "somebody came")
    assert examine._noticed(Verdict("s.unix", BLOCKED), {}) == Verdict("s.unix", BLOCKED)


def report(profile: str, **states: str) -> examine.Report:
    return examine.Report(profile, {"limits": [Verdict(n.replace("_", ".", 1), s, "why") for n, s in states.items()]})


def test_the_report_says_what_failed_and_may_not() -> None:
    made = report(profiles.ROOT, l_disk=OPEN, l_mem=OPEN, l_cpu=SKIPPED, l_fork=BLOCKED)
    assert [v.id for v in made.unexpected] == ["l.mem"]
    assert made.lines()[-1] == "1 passed, 2 failed, 1 skipped"
    assert "Failed and may not: l.mem" in made.lines()
    [row] = [line for line in made.lines() if line.startswith("  l.disk")]
    assert "may fail in this profile" in row


@pytest.mark.parametrize(
    ("root", "image", "isolation", "expected"),
    [
        (True, True, "namespaces", "root with image"),
        (True, False, "namespaces", "root"),
        (False, False, "namespaces", "unprivileged"),
        (True, True, "reduced", "reduced"),
    ],
)
def test_the_profile(root: bool, image: bool, isolation: str, expected: str) -> None:
    assert profiles.name(root=root, image=image, isolation=isolation) == expected


def test_the_groups_are_as_documented() -> None:
    sizes = {group: len(suite.names(group)) for group in suite.GROUPS}
    assert (sizes["files"], sizes["kernel"], sizes["identity"], sizes["processes"]) == (19, 20, 4, 11)
    assert (sizes["limits"], sizes["sockets"], sizes["terminal"], sizes["cgroup"]) == (11, 13, 4, 2)
    assert len({name for group in suite.GROUPS for name in suite.names(group)}) == sum(sizes.values()) == 84
