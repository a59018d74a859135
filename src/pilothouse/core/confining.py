"""Settings of what a session is and may: its isolation, its shells, what it reaches, what it may use."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pilothouse.core import reach
from pilothouse.core.errors import BadRequest
from pilothouse.core.limits import KINDS, Caps
from pilothouse.core.setting import YEAR_S, Size, setting
from pilothouse.core.shell import SCROLLBACK, SCROLLBACK_MAX, SCROLLBACK_MIN

NEVER_SCHEMES = frozenset({"file", "ext", "fd", "git-remote-ext"})


def _limit(name: str, doc: str, *, unset: bool = False) -> Any:
    kind = KINDS[name]
    default = None if unset else int(Caps().given(name))
    key, env = f"limits.{name}", f"PILOTHOUSE_LIMITS_{name.upper()}"
    return setting(default, doc, key=key, env=env, low=kind.low, high=kind.high)


@dataclass(frozen=True)
class SandboxSettings:
    sandbox: str = setting(
        "bubblewrap",
        "How sessions are isolated; `host` isolates nothing.",
        key="sandbox.kind",
        env="PILOTHOUSE_SANDBOX",
        choices=("bubblewrap", "host"),
    )
    allow_reduced: bool = setting(
        False,
        "Run sessions with less isolation where this host gives no namespaces; docs/isolation.md says what is lost.",
        key="sandbox.allow_reduced",
        env="PILOTHOUSE_ALLOW_REDUCED",
    )
    idle_s: int = setting(
        900,
        "Seconds without use after which a session is stopped.",
        key="sandbox.idle_s",
        env="PILOTHOUSE_IDLE_S",
        low=5,
        high=YEAR_S,
    )
    sessions_max: int = setting(
        60, "Sessions alive at one time.", key="sandbox.sessions_max", env="PILOTHOUSE_SESSIONS_MAX", low=1
    )
    spares: int = setting(
        1,
        "Sandboxes kept ready, with a runner started, so that a new session answers at once.",
        key="sandbox.spares",
        env="PILOTHOUSE_SPARES",
        low=0,
    )
    git_schemes: tuple[str, ...] = setting(
        ("https",), "Schemes a git source may have.", key="sandbox.git_schemes", env="PILOTHOUSE_GIT_SCHEMES"
    )
    shell_idle_s: int = setting(
        4 * 3600,
        "Seconds without output, input and viewers after which a shell is ended.",
        key="shells.idle_s",
        env="PILOTHOUSE_SHELL_IDLE_S",
        low=5,
        high=YEAR_S,
    )
    shell_life_s: int = setting(
        8 * 3600,
        "Seconds after which a shell is ended in any case.",
        key="shells.life_s",
        env="PILOTHOUSE_SHELL_LIFE_S",
        low=5,
        high=YEAR_S,
    )
    shell_scrollback: Size = setting(
        SCROLLBACK,
        "Output that is kept of a shell, for whoever comes back.",
        key="shells.scrollback",
        env="PILOTHOUSE_SHELL_SCROLLBACK",
        low=SCROLLBACK_MIN,
        high=SCROLLBACK_MAX,
    )
    egress: str = setting(
        "allow",
        "What sessions reach besides the model.",
        key="egress.policy",
        env="PILOTHOUSE_EGRESS",
        choices=("off", "allow", "full"),
    )
    egress_domains: tuple[str, ...] = setting(
        (
            "pypi.org",
            "files.pythonhosted.org",
            "registry.npmjs.org",
            "github.com",
            "*.githubusercontent.com",
            "gitlab.com",
            "bitbucket.org",
            "deb.debian.org",
            "crates.io",
            "*.crates.io",
            "proxy.golang.org",
        ),
        "Domains open under the policy `allow`, on ports 443 and 80 or as `HOST:PORT`; `*.` stands for any subdomain.",
        key="egress.domains",
        env="PILOTHOUSE_EGRESS_DOMAINS",
    )
    egress_ask: bool = setting(
        True,
        "Whether a person is asked about a domain that is not listed; else it is refused at once.",
        key="egress.ask",
        env="PILOTHOUSE_EGRESS_ASK",
    )
    egress_allow_private: tuple[str, ...] = setting(
        (),
        "`HOST:PORT` that sessions may reach although its address is not a public one; it must be a listed domain too.",
        key="egress.allow_private",
        env="PILOTHOUSE_EGRESS_ALLOW_PRIVATE",
    )
    limits_memory: Size | None = _limit(
        "memory", "Memory of a session, /tmp and /dev/shm in it. Unset: 4G, or half of the machine's.", unset=True
    )
    limits_processes: int = _limit("processes", "Processes and threads of a session.")
    limits_cpu: float | None = _limit("cpu", "Processors a session may keep busy, such as 1.5. Unset: all.", unset=True)
    limits_disk: Size = _limit("disk", "Workspace and home of a session together; taken as it is filled.")
    limits_files: int = _limit("files", "Files and directories on a session's disk.")
    limits_tmp: Size = _limit("tmp", "Size of /tmp in a session.")
    limits_shm: Size = _limit("shm", "Size of /dev/shm in a session.")
    limits_run: Size = _limit("run", "Size of /run in a session.")
    limits_image: bool = setting(
        True,
        "A disk of its own (an ext4 image) for each new session where the host can; off: a plain directory.",
        key="limits.image",
        env="PILOTHOUSE_LIMITS_IMAGE",
    )


def wrong(settings: SandboxSettings) -> str:
    """Empty when nothing is."""
    for scheme in settings.git_schemes:
        if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or scheme in NEVER_SCHEMES:
            return f"sandbox.git_schemes: {scheme!r} reads this machine or runs programs, or is no scheme"
    try:
        reach.domains(settings.egress_domains, "egress.domains")
        for text in settings.egress_allow_private:
            reach.target(text)
    except BadRequest as error:
        return error.message
    except reach.BadTarget as error:
        return f"egress.allow_private: {text!r}: {error}"
    return ""
