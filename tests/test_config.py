"""Every bad value is named, nothing starts on a guess, no secret is shown."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from pathlib import Path

import pytest

from pilothouse import bootstrap, config
from pilothouse.config import ConfigError, load, shown
from pilothouse.core.limits import GIB
from pilothouse.core.namespaces import Namespace
from pilothouse.engine.clock import SystemClock
from pilothouse.engine.kit import silent


def env(tmp_path: Path, **more: str) -> dict[str, str]:
    return {"PILOTHOUSE_HOME": str(tmp_path / "h"), "PILOTHOUSE_RUNTIME": "/tmp/ph-config-test", **more}


def read(tmp_path: Path, toml: str = "", **more: str) -> config.Config:
    home = tmp_path / "h"
    home.mkdir(exist_ok=True)
    (home / "pilothouse.toml").write_text(toml)
    return load(env(tmp_path, **more), make=False)


BAD = [
    ("PILOTHOUSE_PORT", "-1"), ("PILOTHOUSE_PORT", "65536"), ("PILOTHOUSE_PORT", "x"), ("PILOTHOUSE_PORT", "8.5"),
    ("PILOTHOUSE_BEHIND_PROXY", "maybe"), ("PILOTHOUSE_HOT_SOCKETS", "2"), ("PILOTHOUSE_SANDBOX", "docker"),
    ("PILOTHOUSE_IDLE_S", "1"), ("PILOTHOUSE_IDLE_S", "99999999999"), ("PILOTHOUSE_APPROVAL_TIMEOUT_S", "0"),
    ("PILOTHOUSE_APPROVAL_TIMEOUT_S", "99999999999999"), ("PILOTHOUSE_JOB_TIMEOUT_S", "0"),
    ("PILOTHOUSE_FOLD_AFTER_S", "-1"), ("PILOTHOUSE_SESSIONS_MAX", "0"), ("PILOTHOUSE_SPARES", "-1"),
    ("PILOTHOUSE_PERMISSION_MODE", "yolo"), ("PILOTHOUSE_AGENT", "nobody"), ("PILOTHOUSE_EGRESS", "everything"),
    ("PILOTHOUSE_MODEL_PROVIDER", "oracle"), ("PILOTHOUSE_DURABILITY", "maybe"), ("PILOTHOUSE_LOG_FORMAT", "xml"),
    ("PILOTHOUSE_RETENTION_EVENTS", "1"), ("PILOTHOUSE_JOB_MAX_COST_USD", "nan"),
    ("PILOTHOUSE_JOB_MAX_COST_USD", "inf"), ("PILOTHOUSE_JOB_MAX_COST_USD", "-1"),
    ("PILOTHOUSE_SESSION_MAX_COST_USD", "lots"), ("PILOTHOUSE_HOST", "http://x"), ("PILOTHOUSE_HOST", "a b"),
    ("PILOTHOUSE_HOSTS", "https://example.com"), ("PILOTHOUSE_HOSTS", "example.com:443"), ("PILOTHOUSE_HOSTS", "*"),
    ("PILOTHOUSE_HOSTS", "Example.com"), ("PILOTHOUSE_HOSTS", "example.com."),
    ("PILOTHOUSE_HOSTS", "b\u00fccher.example"),
    ("PILOTHOUSE_HOSTS", "0.0.0.0"), ("PILOTHOUSE_HOSTS", "[::]"), ("PILOTHOUSE_HOSTS", "user@a.example"),
    ("PILOTHOUSE_HOSTS", "[2001:DB8::1]"), ("PILOTHOUSE_HOSTS", "[2001:db8:0::1]"), ("PILOTHOUSE_HOSTS", "a..example"),
    ("PILOTHOUSE_TRUSTED_PROXIES", "*"), ("PILOTHOUSE_TRUSTED_PROXIES", "10.0.0.1/8"),
    ("PILOTHOUSE_TRUSTED_PROXIES", "proxy.example"), ("PILOTHOUSE_TRUSTED_PROXIES", "10.0.0.1,unix"),
    ("PILOTHOUSE_FORWARDED", "both"), ("PILOTHOUSE_ACCESS_LOG", "yes"),
    ("PILOTHOUSE_BASE_PATH", "pilothouse"), ("PILOTHOUSE_BASE_PATH", "/"), ("PILOTHOUSE_BASE_PATH", "/a/"),
    ("PILOTHOUSE_BASE_PATH", "//a"), ("PILOTHOUSE_BASE_PATH", "/a//b"), ("PILOTHOUSE_BASE_PATH", "/.."),
    ("PILOTHOUSE_BASE_PATH", "/a b"), ("PILOTHOUSE_BASE_PATH", "/a?b"), ("PILOTHOUSE_BASE_PATH", "/a%2fb"),
    ("PILOTHOUSE_BASE_PATH", "/api"), ("PILOTHOUSE_BASE_PATH", "/ws/a"), ("PILOTHOUSE_BASE_PATH", "https://a.example/b"),
    ("PILOTHOUSE_HOSTS", "a.example,evil/x"), ("PILOTHOUSE_CORS_ORIGINS", "*"),
    ("PILOTHOUSE_CORS_ORIGINS", "null"), ("PILOTHOUSE_CORS_ORIGINS", "https://a.example/"),
    ("PILOTHOUSE_CORS_ORIGINS", "a.example"), ("PILOTHOUSE_CORS_ORIGINS", "https://A.example"),
    ("PILOTHOUSE_CORS_ORIGINS", "https://u@a.example"), ("PILOTHOUSE_GIT_SCHEMES", "ext"),
    ("PILOTHOUSE_GIT_SCHEMES", "https,file"), ("PILOTHOUSE_GIT_SCHEMES", "HTTPS"),
    ("ANTHROPIC_BASE_URL", "ftp://x"), ("ANTHROPIC_BASE_URL", "api.example"),
    ("ANTHROPIC_BASE_URL", "https://user:pw@x"), ("PILOTHOUSE_TLS_CERT", "/x.pem"), ("PILOTHOUSE_TLS_KEY", "/x.pem"),
    ("PILOTHOUSE_TLS_CERT", "~nobody-of-this-name/x"), ("PILOTHOUSE_CONFIG", "/nowhere/at/all.toml"),
    ("PILOTHOUSE_HOME", "~nobody-of-this-name"), ("PILOTHOUSE_SIGV4_REGION", "US East"),
    ("PILOTHOUSE_LIMITS_MEMORY", "lots"),
    ("PILOTHOUSE_LIMITS_MEMORY", "1M"), ("PILOTHOUSE_LIMITS_DISK", "-5G"), ("PILOTHOUSE_LIMITS_CPU", "0"),
    ("PILOTHOUSE_LIMITS_CPU", "two"), ("PILOTHOUSE_LIMITS_PROCESSES", "2G"), ("PILOTHOUSE_LIMITS_FILES", "1"),
    ("PILOTHOUSE_LIMITS_IMAGE", "5G"),
    ("PILOTHOUSE_EGRESS_DOMAINS", "*"),
    ("PILOTHOUSE_EGRESS_DOMAINS", "https://pypi.org"), ("PILOTHOUSE_EGRESS_DOMAINS", "pypi.org,a b"),
    ("PILOTHOUSE_EGRESS_ASK", "perhaps"), ("PILOTHOUSE_EGRESS_ALLOW_PRIVATE", "git.corp.example"),
    ("PILOTHOUSE_EGRESS_ALLOW_PRIVATE", "*.corp.example:443"), ("PILOTHOUSE_EGRESS_ALLOW_PRIVATE", "10.0.0.0/8:443"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), BAD)
def test_a_bad_value_is_refused_and_named(tmp_path: Path, name: str, value: str) -> None:
    key = next((f.metadata["key"] for f in config.settings() if f.metadata["env"] == name), "") or name
    with pytest.raises(ConfigError) as told:
        load(env(tmp_path, **{name: value}), make=False)
    assert name in str(told.value) or key in str(told.value)


FILES = [
    "[server]\nprot = 1", "port = 1", "[server]\nport = true", "[server]\nport = 1.5", "[server]\nport = 'x'",
    "[server]\nhosts = 'a b'", "[server]\nhosts = [1]", "[server.port]\nx = 1", "[nothing]\nx = 1", "not toml",
    "[server]\nhost = ''", "[limits]\nmemory = 1.5", "[limits]\nmemory = true", "[limits]\ndisk = ['1G']",
    "[server]\nhost = 'a\\u0000b'", "[model]\njob_max_cost_usd = inf",
    "[model]\njob_max_cost_usd = true", "[server]\nbehind_proxy = 'perhaps'", "[server]\ntls_cert = 1",
]  # fmt: skip


@pytest.mark.parametrize("toml", FILES)
def test_a_bad_file_is_refused_and_named(tmp_path: Path, toml: str) -> None:
    with pytest.raises(ConfigError):
        read(tmp_path, toml)


def test_a_secret_of_the_wrong_type_is_not_shown(tmp_path: Path) -> None:
    for toml in ("[model]\napi_key = 123456789", "[model]\nauth_token = ['123456789']"):
        with pytest.raises(ConfigError) as told:
            read(tmp_path, toml)
        assert "123456789" not in str(told.value)
    with pytest.raises(ConfigError) as told:
        read(tmp_path, ANTHROPIC_API_KEY="sk-123456789\n")
    assert "123456789" not in str(told.value)


def test_secrets_are_masked(tmp_path: Path) -> None:
    made = read(tmp_path, ANTHROPIC_API_KEY="sk-secret", PILOTHOUSE_API_KEY="ph_secret", AWS_SECRET_ACCESS_KEY="aws-s")
    assert made.api_key == "sk-secret"
    text = str(shown(made))
    assert not any(secret in text for secret in ("sk-secret", "ph_secret", "aws-s"))


def test_the_environment_comes_before_the_file_and_options_before_both(tmp_path: Path) -> None:
    assert read(tmp_path, "[server]\nport = 1000").port == 1000
    assert read(tmp_path, "[server]\nport = 1000", PILOTHOUSE_PORT="2000").port == 2000
    assert load(env(tmp_path, PILOTHOUSE_PORT="2000"), overrides={"port": 3000}, make=False).port == 3000
    with pytest.raises(ConfigError, match="port"):
        load(env(tmp_path), overrides={"port": 70_000}, make=False)


def test_good_names_are_taken(tmp_path: Path) -> None:
    made = read(tmp_path, PILOTHOUSE_HOSTS="a.example, [2001:db8::1]", PILOTHOUSE_CORS_ORIGINS="https://a.example:8443")
    assert made.hosts == ("a.example", "[2001:db8::1]")
    assert made.cors_origins == ("https://a.example:8443",)


def test_limits_of_sessions(tmp_path: Path) -> None:
    caps = read(tmp_path).caps
    assert 0 < caps.memory <= 4 * GIB
    assert caps.cpu == os.cpu_count()
    assert (caps.disk, caps.processes) == (10 * GIB, 512)
    toml = "[limits]\nmemory = '1.5G'\ndisk = 1073741824\ncpu = 1.5\ntmp = '1 GiB'"
    caps = read(tmp_path, toml, PILOTHOUSE_LIMITS_SHM="128M").caps
    assert (caps.memory, caps.disk, caps.cpu, caps.tmp, caps.shm) == (3 * GIB // 2, GIB, 1.5, GIB, GIB // 8)


def test_a_home_that_is_no_directory_of_ours_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path)
    for name in ("file", "file/below", "link"):
        with pytest.raises(ConfigError):
            load({"PILOTHOUSE_HOME": str(tmp_path / name), "PILOTHOUSE_RUNTIME": str(tmp_path / "r")})


def test_home_is_for_its_user_alone(tmp_path: Path) -> None:
    runtime = Path(f"/tmp/ph-config-{os.getpid()}")
    (tmp_path / "h").mkdir(mode=0o755)
    made = load({"PILOTHOUSE_HOME": str(tmp_path / "h"), "PILOTHOUSE_RUNTIME": str(runtime)})
    assert made.home.stat().st_mode & 0o777 == 0o700
    runtime.rmdir()


# --- who may listen where -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "127.0.0.2", "example.com", "0"])
def test_c02_other_machines_are_let_in_by_tls_or_a_proxy_only(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match=r"server\.host"):
        bootstrap.may_bind(read(tmp_path, PILOTHOUSE_HOST=host))
    bootstrap.may_bind(read(tmp_path, PILOTHOUSE_HOST=host, PILOTHOUSE_BEHIND_PROXY="1"))
    bootstrap.may_bind(read(tmp_path, PILOTHOUSE_HOST=host, PILOTHOUSE_TLS_CERT="/c", PILOTHOUSE_TLS_KEY="/k"))
    with pytest.raises(ConfigError, match="isolates nothing"):
        bootstrap.may_bind(
            read(tmp_path, PILOTHOUSE_HOST=host, PILOTHOUSE_TLS_CERT="/c", PILOTHOUSE_TLS_KEY="/k",
                 PILOTHOUSE_SANDBOX="host")
        )  # fmt: skip


def test_no_isolation_is_not_offered_through_a_proxy_either(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="isolates nothing"):
        read(tmp_path, PILOTHOUSE_SANDBOX="host", PILOTHOUSE_BEHIND_PROXY="1")

    with pytest.raises(ConfigError, match="isolates nothing"):
        read(tmp_path, PILOTHOUSE_SANDBOX="host", PILOTHOUSE_TRUSTED_PROXIES="127.0.0.1")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "0"])
def test_c03_an_address_that_stands_for_all_is_nobodys_name(tmp_path: Path, host: str) -> None:
    """Pages can reach it; and this machine's own command line goes to loopback."""
    made = read(tmp_path, PILOTHOUSE_HOST=host, PILOTHOUSE_HOSTS="a.example", PILOTHOUSE_PORT="9")
    assert made.names == {"127.0.0.1", "localhost", "[::1]", "a.example"}
    assert made.url == ("http://[::1]:9" if host == "::" else "http://127.0.0.1:9")


def test_an_address_that_is_one_is_a_name(tmp_path: Path) -> None:
    assert "192.0.2.7" in read(tmp_path, PILOTHOUSE_HOST="192.0.2.7").names
    assert "[2001:db8::7]" in read(tmp_path, PILOTHOUSE_HOST="2001:DB8:0::7").names


def test_c02_requests_are_logged_where_other_machines_reach_the_server(tmp_path: Path) -> None:
    assert not read(tmp_path).logs_access
    for name, value in (("HOST", "0.0.0.0"), ("BEHIND_PROXY", "1"), ("TRUSTED_PROXIES", "10.0.0.0/8, ::1")):
        assert read(tmp_path, **{f"PILOTHOUSE_{name}": value}).logs_access, name
        assert not read(tmp_path, **{f"PILOTHOUSE_{name}": value, "PILOTHOUSE_ACCESS_LOG": "off"}).logs_access
    assert read(tmp_path, PILOTHOUSE_ACCESS_LOG="on").logs_access


def test_a_path_is_in_the_address(tmp_path: Path) -> None:
    assert read(tmp_path, PILOTHOUSE_BASE_PATH="/a/b-c").url == "http://127.0.0.1:8420/a/b-c"


def test_the_page_is_opened_by_a_name_that_the_certificate_has(tmp_path: Path) -> None:
    tls = {"PILOTHOUSE_TLS_CERT": "/c", "PILOTHOUSE_TLS_KEY": "/k", "PILOTHOUSE_HOSTS": "a.example,b.example"}
    made = read(tmp_path, **tls)
    assert (made.page, made.url) == ("https://a.example:8420", "https://127.0.0.1:8420")
    assert read(tmp_path, **tls, PILOTHOUSE_PORT="443", PILOTHOUSE_BASE_PATH="/x").page == "https://a.example/x"
    assert read(tmp_path, PILOTHOUSE_HOSTS="a.example").page == "http://127.0.0.1:8420"


def test_certificates_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for name in (bad, tmp_path / "missing.pem"):
        made = read(tmp_path, PILOTHOUSE_TLS_CERT=str(name), PILOTHOUSE_TLS_KEY=str(name))
        with pytest.raises(ConfigError, match=r"tls_cert.*pem"):
            bootstrap.tls(made)


def test_private_files_are_private_from_their_first_byte(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        bootstrap.write_private(tmp_path / "key", "secret")
    finally:
        os.umask(old)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_where_the_keeper_looks_for_modules_does_not_depend_on_where_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = read(tmp_path, PYTHONPATH="src::/opt/lib:.:").inherited
    assert given["PYTHONPATH"] == f"{tmp_path}/src:/opt/lib:{tmp_path}"
    assert "PYTHONPATH" not in read(tmp_path).inherited


async def test_a_handler_that_cannot_be_had_is_told_with_its_setting(tmp_path: Path) -> None:
    made = dataclasses.replace(read(tmp_path), namespaces=(Namespace("news", on_publish="nowhere:handler"),))
    asked = dataclasses.replace(read(tmp_path), authorizer="json:nothing")
    async with contextlib.AsyncExitStack() as stack:
        with pytest.raises(bootstrap.CannotStartError) as refused:
            bootstrap.handlers(made, stack, silent)
        where, how = str(refused.value).splitlines()
        assert where.startswith("namespaces.news.on_publish: nowhere:handler: ModuleNotFoundError: ")
        assert "PYTHONPATH" in how
        with pytest.raises(bootstrap.CannotStartError, match=r"\Aevents\.authorizer: json:nothing: .*\Z"):
            bootstrap.ways(asked, SystemClock(), stack, silent)
