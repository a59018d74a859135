"""The `/etc` of sessions: one prepared directory, bound read-only.

One bind instead of thirty is faster to start, and an allow-list is safer than the host's own: `/etc/gitconfig`,
`/etc/pip.conf` or `/etc/environment` may hold tokens. Only what every user may read is copied, links as links.
"""

from __future__ import annotations

import contextlib
import shutil
import stat
from pathlib import Path

from pilothouse.adapters.sandboxes import enter

ALLOWED = (
    "alternatives", "bash.bashrc", "bash_completion", "ca-certificates", "ca-certificates.conf", "debian_version",
    "fonts", "inputrc", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "locale.alias", "localtime", "magic", "mime.types",
    "os-release", "pki/ca-trust", "pki/tls/certs", "profile", "protocols", "rpc", "services", "shells", "ssl/certs",
    "ssl/openssl.cnf", "ssl/cert.pem", "terminfo", "timezone", "vim",
)  # fmt: skip
_ALLOWED_PREFIXES = ("java-", "python3")
SIZE_MAX = 32 * 1024 * 1024
"""Certificates, ld.so.cache and fonts' settings are about one MiB; a host with far more is not what we expect."""

_SYNTHETIC = {
    "passwd": "root:x:0:0:root:/root:/usr/sbin/nologin\n"
    "agent:x:1000:1000:agent:/home/agent:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n",
    "hosts": "127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost\n",
    "hostname": "sandbox\n",
    "resolv.conf": "# There is no name server in a session: names are resolved by the proxy.\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
}


class _Budget:
    def __init__(self) -> None:
        self.left = SIZE_MAX

    def spend(self, size: int) -> bool:
        self.left -= size
        return self.left >= 0


def _copy(source: Path, target: Path, budget: _Budget) -> None:
    try:
        status = source.lstat()
    except OSError:
        return
    if stat.S_ISLNK(status.st_mode):
        target.symlink_to(source.readlink())
    elif stat.S_ISDIR(status.st_mode):
        if status.st_mode & 0o005 != 0o005:
            return
        target.mkdir(parents=True, exist_ok=True)
        target.chmod(0o755)
        for child in source.iterdir():
            _copy(child, target / child.name, budget)
    elif stat.S_ISREG(status.st_mode) and status.st_mode & 0o004 and budget.spend(status.st_size):
        shutil.copyfile(source, target, follow_symlinks=False)
        target.chmod(0o755 if status.st_mode & 0o100 else 0o644)


def _sleeper(target: Path) -> None:
    """To be run, not read, even by whom it belongs to. Where it is missing, another first process is found."""
    with contextlib.suppress(OSError):
        target.parent.mkdir()
        target.parent.chmod(0o755)
        shutil.copyfile("/bin/sleep", target)
        target.chmod(0o111)


def names(etc: Path = Path("/etc")) -> list[str]:
    """What may be seen of the host's `etc`, as far as every user may."""
    return [*ALLOWED, *sorted(p.name for p in etc.iterdir() if p.name.startswith(_ALLOWED_PREFIXES))]


def prepare(target: Path, etc: Path = Path("/etc")) -> None:
    """Fills the new directory `target` from the host's `etc`."""
    target.mkdir(mode=0o755)
    target.chmod(0o755)
    budget = _Budget()
    for name in names(etc):
        if (etc / name).is_symlink() or (etc / name).exists():
            (target / name).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            _copy(etc / name, target / name, budget)
    _sleeper(target / enter.SLEEPER)
    for name, text in _SYNTHETIC.items():
        path = target / name
        path.write_text(text)
        path.chmod(0o644)
