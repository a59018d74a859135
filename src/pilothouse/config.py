"""Settings: one TOML file and the environment, made into one frozen `Config`. The only reader of `os.environ`.

Order: environment over file over default. The file is `<home>/pilothouse.toml`, or what `PILOTHOUSE_CONFIG` names.
Every setting is one field of `Config`; its metadata says where it stands in the file, in the environment and what it
is for. An unknown key, a wrong type or a value out of range is refused by name: nothing starts on a guess.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes.layout import LayoutError, private
from pilothouse.core import confining, issuers, namespaces, reach, serving, sizes, storing, telemetry, telling, working
from pilothouse.core.claims import Issuer
from pilothouse.core.confining import SandboxSettings
from pilothouse.core.limits import GIB, Caps
from pilothouse.core.serving import WILDCARDS, ServerSettings
from pilothouse.core.setting import setting as _setting
from pilothouse.core.storing import ArtifactSettings, StoreSettings
from pilothouse.core.telemetry import Telemetry
from pilothouse.core.telling import EventSettings
from pilothouse.core.working import AgentSettings

SOCKET_PATH_MAX = 107
"""Bytes of a unix socket's path; below `runtime` the longest name we make takes `_RUNTIME_TAIL` of them."""
_RUNTIME_TAIL = 60
_INHERITED = re.compile(
    r"(PATH|HOME|USER|LOGNAME|LANG|LC_\w+|TZ|TMPDIR|SSL_CERT_(FILE|DIR)|VIRTUAL_ENV|LD_LIBRARY_PATH|(PYTHON|XDG_|PILOTHOUSE_)\w+)\Z"
)


class ConfigError(Exception):
    """A setting is wrong; the message names it."""


_TABLES: Mapping[str, Callable[[object], Any]] = {"issuers": issuers.read, "namespaces": namespaces.read}
"""What a file has as `[[name]]`."""
SECTIONS = (
    "", "server", "rate", "sandbox", "shells", "egress", "limits", "agent", "issuers", "namespaces", "events",
    "webhooks", "notifications", "model", "store", "artifacts",
)  # fmt: skip
"""Of the file, as people are shown them; first what stands in the environment alone."""


@dataclass(frozen=True)
class Config(ServerSettings, SandboxSettings, AgentSettings, EventSettings, StoreSettings, ArtifactSettings):
    """What the programs are told. Paths are absolute; `runtime` is short enough for unix sockets. Settings of one kind
    are declared together, with what is wrong with them, in the modules that this takes its fields from."""

    home: Path = _setting(Path(), "Where everything is kept.", env="PILOTHOUSE_HOME")
    runtime: Path = _setting(Path(), "Where the sockets are; derived from `home`.", env="PILOTHOUSE_RUNTIME")
    tls_cert: Path | None = _setting(
        None,
        "Certificate with its chain, PEM; read again when it changes.",
        key="server.tls_cert",
        env="PILOTHOUSE_TLS_CERT",
    )
    tls_key: Path | None = _setting(
        None, "Its private key, PEM, not encrypted.", key="server.tls_key", env="PILOTHOUSE_TLS_KEY"
    )
    issuers: tuple[Issuer, ...] = _setting(
        (),
        "Who may sign tokens and sign people in: tables `[[issuers]]`, see [docs/issuers.md](issuers.md).",
        key="issuers",
        secret=True,
    )
    remote_url: str = _setting("", "Server the command line calls; unset: this machine's own.", env="PILOTHOUSE_URL")
    remote_key: str = _setting("", "The command line's API key.", env="PILOTHOUSE_API_KEY", secret=True)
    editor: str = _setting("", "Editor in which the command line lets an input be changed.", env="EDITOR")
    no_color: str = _setting("", "Anything here turns the command line's colours off.", env="NO_COLOR")

    inherited: Mapping[str, str] = field(default_factory=dict, metadata={"derived": True, "secret": True})
    """What keeper and proxy, who outlive the server, have of its environment: no credential is among it."""
    aws_environment: Mapping[str, str] = field(default_factory=dict, metadata={"derived": True, "secret": True})
    """AWS_* of the environment, for the proxy's credential chain."""
    telemetry: Telemetry | None = field(default=None, metadata={"derived": True, "secret": True})
    """OTEL_* of the environment (docs/metrics.md)."""

    @property
    def local_key_file(self) -> Path:
        """0600: the key with which this machine's own command line calls; written by the server at its start."""
        return self.home / "local.key"

    @property
    def sealing_key_file(self) -> Path:
        """0600: what the secrets of key pairs are sealed with; made with the first of them."""
        return self.home / "sealing.key"

    @property
    def server_file(self) -> Path:
        """`{"url", "pid"}` of the running server."""
        return self.home / "server.json"

    @property
    def artifacts_folder(self) -> Path:
        return self.home / "artifacts"

    @property
    def database(self) -> Path:
        return self.home / "log.sqlite"

    @property
    def caps(self) -> Caps:
        """What a session may use that asks for nothing else, and at most."""
        half = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
        return Caps(
            memory=self.limits_memory or min(4 * GIB, half),
            processes=self.limits_processes,
            cpu=self.limits_cpu or float(os.cpu_count() or 1),
            disk=self.limits_disk,
            files=self.limits_files,
            tmp=self.limits_tmp,
            shm=self.limits_shm,
            run=self.limits_run,
        )

    @property
    def reach(self) -> reach.Reach:
        """What a session reaches that says nothing of its own."""
        policy = reach.policy(self.egress, "egress.policy")
        hold = min(self.approval_timeout_s, reach.HOLD_S) if self.egress_ask else 0.0
        return reach.Reach(policy, reach.domains(self.egress_domains, "egress.domains"), hold)

    @property
    def tls(self) -> bool:
        return self.tls_cert is not None

    @property
    def url(self) -> str:
        """Where a person on this machine opens the server."""
        host = WILDCARDS.get(self.host, self.host)
        name = f"[{host}]" if ":" in host else host
        return f"{'https' if self.tls else 'http'}://{name}:{self.port}{self.base_path}"

    @property
    def page(self) -> str:
        """Where people open the page: by a name that the certificate has, where there is one."""
        if not self.tls or not self.hosts:
            return self.url
        port = "" if self.port == 443 else f":{self.port}"
        return f"https://{self.hosts[0]}{port}{self.base_path}"


def settings() -> list[dataclasses.Field[Any]]:
    """Every setting a user can give, for `pilothouse config` and the docs."""
    given = [f for f in dataclasses.fields(Config) if not f.metadata.get("derived")]
    return sorted(given, key=lambda f: SECTIONS.index(f.metadata["key"].partition(".")[0]))


def load(
    environ: Mapping[str, str] | None = None, *, overrides: Mapping[str, Any] | None = None, make: bool = True
) -> Config:
    """Reads file and environment. `overrides` (the command line's options) win. Raises `ConfigError`."""
    env = os.environ if environ is None else environ
    try:
        home = Path(env.get("PILOTHOUSE_HOME") or _default_home(env)).expanduser().absolute()
    except RuntimeError as error:
        raise ConfigError(f"PILOTHOUSE_HOME: {error}") from None
    path = Path(env.get("PILOTHOUSE_CONFIG") or home / "pilothouse.toml")
    values: dict[str, Any] = {**_from_file(path, explicit=bool(env.get("PILOTHOUSE_CONFIG"))), **_from_env(env)}
    values.update({k: v for k, v in (overrides or {}).items() if v is not None})
    values["home"] = home
    values.setdefault("runtime", _default_runtime(home, env))
    values["runtime"] = Path(values["runtime"]).absolute()
    values["aws_environment"] = {k: v for k, v in env.items() if k.startswith("AWS_")}
    try:
        values["telemetry"] = telemetry.read(env)
    except telemetry.BadTelemetry as error:
        raise ConfigError(str(error)) from None
    values["inherited"] = _inherited(env)
    config = Config(**values)
    _check(config)
    if make:
        _private_directory(config.home)
        _private_directory(config.runtime)
    return config


def _inherited(env: Mapping[str, str]) -> dict[str, str]:
    """What the keeper is given, which may be root and stands in another directory: where Python looks for modules is
    said whole, and no empty word says it is the current directory."""
    out = {k: v for k, v in env.items() if _INHERITED.match(k) and k != "PILOTHOUSE_API_KEY"}
    if "PYTHONPATH" in out:
        every = [entry for entry in out["PYTHONPATH"].split(os.pathsep) if entry]
        out["PYTHONPATH"] = os.pathsep.join(str(Path(entry).absolute()) for entry in every)
    return out


def shown(config: Config) -> dict[str, Any]:
    """The configuration for a person's eyes: secrets masked."""
    out: dict[str, Any] = {}
    for f in settings():
        value = getattr(config, f.name)
        if f.metadata["secret"] and value:
            value = "****"
        if f.name == "namespaces":
            value = tuple(one.name for one in value)
        out[f.name] = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    return out


def _default_home(env: Mapping[str, str]) -> str:
    return str(Path(env.get("XDG_DATA_HOME") or "~/.local/share") / "pilothouse")


def _default_runtime(home: Path, env: Mapping[str, str]) -> Path:
    """A short private directory, the same for the same home."""
    if len(os.fsencode(home / "run")) + _RUNTIME_TAIL <= SOCKET_PATH_MAX:
        return home / "run"
    name = hashlib.sha256(os.fsencode(home)).hexdigest()[:10]
    given = env.get("XDG_RUNTIME_DIR")
    if given and Path(given).is_dir():
        return Path(given) / f"pilothouse-{name}"
    if os.geteuid() == 0:
        return Path("/run") / f"pilothouse-{name}"
    return Path("/tmp") / f"pilothouse-{os.geteuid()}-{name}"  # noqa: S108  made 0700 and checked for its owner


def _from_file(path: Path, *, explicit: bool) -> dict[str, Any]:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        if explicit:
            raise ConfigError(f"PILOTHOUSE_CONFIG: {path} does not exist") from None
        return {}
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    try:
        tree = tomllib.loads(text.decode())
    except ValueError as error:
        raise ConfigError(f"{path}: {error}") from None
    known = {f.metadata["key"]: f for f in settings() if f.metadata["key"]}
    tables = {name: tree.pop(name) for name in _TABLES if name in tree}
    status = path.stat()
    if os.geteuid() == 0 and status.st_uid != 0:
        raise ConfigError(f"{path}: root takes no settings from uid {status.st_uid}; run `chown root {path}`")
    open_to = status.st_mode & 0o077
    flat = {
        f"{section}.{name}": v for section, part in tree.items() if isinstance(part, dict) for name, v in part.items()
    }
    stray = [k for k in tree if not isinstance(tree[k], dict)] + [k for k in flat if k not in known]
    if stray:
        raise ConfigError(f"{path}: unknown setting {stray[0]!r}; known are {', '.join(sorted(known))}")
    secret = next((k for k in [*flat, *tables] if known[k].metadata["secret"]), None)
    if secret is not None and open_to:
        raise ConfigError(f"{path}: it holds {secret}, and others may read it; run `chmod 600 {path}`")
    out = {known[key].name: _typed(known[key], value, f"{path}: {key}") for key, value in flat.items()}
    try:
        return out | {name: _TABLES[name](value) for name, value in tables.items()}
    except (issuers.BadIssuer, namespaces.BadNamespace) as error:
        raise ConfigError(f"{path}: {error}") from None


def _from_env(env: Mapping[str, str]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for f in settings():
        name = f.metadata["env"]
        if name and env.get(name):
            out[f.name] = _typed(f, env[name], name)
    return out


def _typed(f: dataclasses.Field[Any], value: Any, where: str) -> Any:
    """A value of the field's type from TOML or from the environment's text."""
    kind = str(f.type)
    text = value if isinstance(value, str) else None
    try:
        if kind.startswith("tuple"):
            items = [p.strip() for p in text.split(",") if p.strip()] if text is not None else value
            if not isinstance(items, list) or not all(isinstance(i, str) for i in items):
                raise ValueError("a list of texts")
            return tuple(items)
        if kind.startswith("Path"):
            if text is None:
                raise ValueError("a path")
            return Path(text).expanduser().absolute()
        if kind == "bool":
            if text is not None and text.lower() in {"1", "true", "yes", "on", "0", "false", "no", "off"}:
                return text.lower() in {"1", "true", "yes", "on"}
            if not isinstance(value, bool):
                raise ValueError("true or false")
            return value
        if kind.startswith("Size") and text is not None:
            return sizes.parse(text)
        if kind == "int" or kind.startswith("Size"):
            if isinstance(value, bool | float):
                raise ValueError("a whole number")
            return int(value)
        if kind.startswith("float"):
            if isinstance(value, bool) or not math.isfinite(float(value)):
                raise ValueError("a number")
            return float(value)
        if text is None:
            raise ValueError("a text")
        return text
    except (ValueError, TypeError, OverflowError, RuntimeError) as error:
        got = "something else" if f.metadata["secret"] else repr(value)
        raise ConfigError(f"{where}: expected {_expected(kind, error)}, got {got}") from None


def _expected(kind: str, error: Exception) -> str:
    if kind == "int":
        return "a whole number"
    if kind.startswith("Size"):
        return "a size such as 512M or 2G"
    return "a number" if kind.startswith("float") else str(error)


def _check(config: Config) -> None:
    for f in settings():
        value, meta = getattr(config, f.name), f.metadata
        name = meta["key"] or meta["env"]
        if meta["choices"] and value not in meta["choices"]:
            raise ConfigError(f"{name}: {value!r} is none of {', '.join(meta['choices'])}")
        if meta["low"] is not None and value is not None and not value >= meta["low"]:
            raise ConfigError(f"{name}: {value} is below {meta['low']}")
        if meta["high"] is not None and value is not None and not value <= meta["high"]:
            raise ConfigError(f"{name}: {value} is above {meta['high']}")
        if isinstance(value, str) and not value.isprintable():
            shown = "it" if meta["secret"] else repr(value)
            raise ConfigError(f"{name}: {shown} has characters that cannot be printed")
    for said in (serving.wrong(config), confining.wrong(config), working.wrong(config), telling.wrong(config)):
        if said:
            raise ConfigError(said)
    if said := storing.wrong(config):
        raise ConfigError(said)
    if config.sandbox == "host" and (config.behind_proxy or config.trusted_proxies):
        raise ConfigError("sandbox.kind: host isolates nothing and is for this machine alone, not behind a proxy")
    if (config.tls_cert is None) != (config.tls_key is None):
        raise ConfigError("server.tls_cert and server.tls_key go together")
    if len(os.fsencode(config.runtime)) + _RUNTIME_TAIL > SOCKET_PATH_MAX:
        raise ConfigError(f"PILOTHOUSE_RUNTIME: {config.runtime} is too long for unix sockets; choose a shorter one")


def _private_directory(path: Path) -> None:
    """Makes it 0700 and ours, or refuses: a directory that others can write to would give our sockets away."""
    try:
        private(path)
    except (LayoutError, OSError) as error:
        raise ConfigError(f"{path} cannot be used: {getattr(error, 'strerror', None) or error}") from None
