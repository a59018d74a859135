from __future__ import annotations

from pilothouse.core.policy import decide


def test_planning_allows_no_edit_by_a_relative_path() -> None:
    """Relative paths are of the workspace; they once were taken for ones of the plan's own directory."""
    assert decide("Write", {"file_path": "a.txt", "content": ""}, mode="plan").verdict == "deny"
