"""Who the session is, and whether it can become somebody else."""

from __future__ import annotations

import os
from pathlib import Path

from pilothouse.adapters.sandboxes.escape import calls
from pilothouse.adapters.sandboxes.escape.ground import Check, Ground, failed, first, refused, status, sure

_GET_NO_NEW_PRIVS = 39
_SET_NO_NEW_PRIVS = 38


def _root(ground: Ground) -> str:
    """Neither here nor on the host: there root owns `/usr`, and inside that must not be us."""
    if 0 in {*os.getresuid(), *os.getresgid(), *os.getgroups()}:
        return "the session runs as root or in its group"
    sure(Path(ground.root).stat().st_uid == os.getuid(), "the workspace is its own")
    return "the session's uid is root outside" if Path("/usr").stat().st_uid == os.getuid() else ""


def _setuid(ground: Ground) -> str:
    me = os.getuid()
    os.setresuid(me, me, me)  # the call itself is allowed
    return first(
        failed("the session became root", os.setresuid, 0, 0, 0),
        failed("the session joined root's group", os.setresgid, 0, 0, 0),
        failed("the session set its groups", os.setgroups, [0]),
    )


def _caps(ground: Ground) -> str:
    if calls.capabilities():
        return "the session holds capabilities"
    for pid in () if ground.reduced else ("self", "1"):
        sets = {name: status(pid, name) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")}
        sure(all(sets.values()), f"the capabilities of {pid} are readable")
        held = [name for name, value in sets.items() if int(value, 16)]
        if held:
            return f"{'the session' if pid == 'self' else 'its first process'} holds {', '.join(held)}"
    calls.capset(0)
    return refused("capabilities were taken", calls.capset, 0xFFFFFFFF)


def _nnp(ground: Ground) -> str:
    sure(calls.prctl(_GET_NO_NEW_PRIVS, 0) in (0, 1), "the kernel answers")
    if not calls.no_new_privs() or not calls.filtered():
        return "programs may gain privileges, or no filter of system calls is active"
    for pid in () if ground.reduced else ("self", "1"):
        if status(pid, "NoNewPrivs") != "1":
            return "programs may gain privileges"
        if status(pid, "Seccomp") != "2":
            return "no filter of system calls is active"
    return failed("no_new_privs was taken back", calls.prctl, _SET_NO_NEW_PRIVS, 0)


CHECKS: dict[str, Check] = {"id.root": _root, "id.setuid0": _setuid, "id.caps": _caps, "id.nnp": _nnp}
