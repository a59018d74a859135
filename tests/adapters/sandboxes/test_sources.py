from __future__ import annotations

import os
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import sources
from pilothouse.core.errors import BadRequest

ME = os.geteuid()


@pytest.mark.parametrize("url", ["https://example.com/a.git", "https://example.com:8443/a/b"])
def test_https_is_cloned(url: str) -> None:
    assert sources.git_url(url) == url


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("", "expected a URL"),
        ("https://example.com/" + "a" * 3000, "expected a URL"),
        ("http://example.com/a", "only https://"),
        ("file:///etc", "only https://"),
        ("ext::sh -c id", "control characters, spaces"),
        ("ext::sh", "only https://"),
        ("git@example.com:a.git", "only https://"),
        ("/etc", "only https://"),
        ("--upload-pack=id", "option"),
        ("https://u:p@example.com/a", "credentials"),
        ("https://u@example.com/a", "credentials"),
        ("https://example.com/a\nb", "control characters"),
        ("https://example.com/\x00", "control characters"),
        ("https://exämple.com/", "outside ASCII"),
        ("https://", "no host"),
        ("https://-oProxyCommand=x/", "no host"),
        ("https://[::1/", "source.git"),
        ("https://example.com:port/", "source.git"),
    ],
)
def test_other_urls_are_refused_with_a_reason(url: str, word: str) -> None:
    with pytest.raises(BadRequest, match="source") as refused:
        sources.git_url(url)
    assert word in refused.value.message


def test_no_setting_allows_what_reads_the_host() -> None:
    for url in ("file:///etc", "ext://x", "fd://3"):
        with pytest.raises(BadRequest):
            sources.git_url(url, ("https", "file", "ext", "fd"))


def test_a_directory_of_the_sessions_uid_is_taken(tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    link = tmp_path / "link"
    link.symlink_to("project")
    taken = sources.directory(str(link), ME, tmp_path / "h", tmp_path / "r")
    assert taken == (tmp_path / "project").resolve()


def test_directories_that_are_refused(tmp_path: Path) -> None:
    home, project = tmp_path / "h", tmp_path / "project"
    for path in (home / "sessions", project):
        path.mkdir(parents=True)
    (tmp_path / "file").write_text("")

    def why(path: str, uid: int | None = ME) -> str:
        with pytest.raises(BadRequest) as refused:
            sources.directory(path, uid, home, tmp_path / "r", (project,))
        return refused.value.message

    assert "absolute" in why("project")
    assert "No such file" in why(str(tmp_path / "none"))
    assert "not a directory" in why(str(tmp_path / "file"))
    assert "Pilothouse itself" in why(str(home / "sessions"))
    assert "Pilothouse itself" in why(str(tmp_path))
    assert "Pilothouse itself" in why("/")
    assert "home directory" in why(str(project))
    (tmp_path / "other").mkdir()
    assert "belongs to uid" in why(str(tmp_path / "other"), ME + 1)
    assert "runs as root" in why(str(tmp_path / "other"), None)
    assert "expected the path" in why("/a\0b")
