"""Run as a program by an ordinary user, with any Python: a session through the keeper's own sockets, checked inside.

Prints one JSON object: {"root", "uid", "answers": {check: hole}, "received", "exit", "left": [names], "hog", "bomb",
"file": outputs, "hits": [notice], "limits": [state], "status": {"enforced", "lacks"}}.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pilothouse.adapters.sandboxes import fdpass

SESSION = "11111111-2222-3333-4444-555555555555"
LIMITS = {"limits": {"memory": 128 << 20, "processes": 64, "disk": 64 << 20}}


class Line:
    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(str(path))
        self.lines = fdpass.Lines(self.sock)
        self.hello = self.ask({"verb": "hello", "proto": 1})

    def ask(self, message: dict[str, Any]) -> dict[str, Any]:
        fdpass.send(self.sock, message)
        return fdpass.wait(self.lines)


def main(base: Path) -> dict[str, Any]:
    runtime = base / "r"
    where = ["--home", str(base / "h"), "--runtime", str(runtime), "--no-proxy", "--detach"]
    subprocess.run([sys.executable, "-m", "pilothouse.keeper", *where], check=True, stdout=subprocess.DEVNULL)
    keeper = Line(runtime / "keeper.sock")
    opened = keeper.ask({"verb": "open", "session": SESSION, "sandbox": "bubblewrap", "agent": "echo"} | LIMITS)
    if not opened["ok"]:
        return opened
    holder = Line(runtime / f"{SESSION}.ctl")
    canary = base / "canary"
    canary.write_text("x")
    checks = {"verb": "run", "module": "pilothouse.adapters.sandboxes.checks", "argv": [str(canary)]}
    answers = json.loads(holder.ask(checks)["output"])
    said = limited(holder)
    holder.ask({"verb": "listeners"})
    model = socket.socket(fileno=holder.lines.take_fds()[0])
    talk = "exec 3<>/dev/tcp/127.0.0.1/3129; echo hello >&3"
    fdpass.send(holder.sock, {"verb": "run", "argv": ["bash", "-c", talk]})
    model.settimeout(20)
    peer, _ = model.accept()
    received = peer.recv(100).decode()
    fdpass.wait(holder.lines)
    stopped = holder.ask({"verb": "stop"})
    status = keeper.ask({"verb": "status"})["limits"]
    keeper.ask({"verb": "delete", "session": SESSION})
    left = [p.name for p in (base / "h" / "sessions").iterdir()]
    keeper.ask({"verb": "stop_all"})
    while (runtime / "keeper.sock").exists():
        time.sleep(0.02)
    told = {"root": keeper.hello["root"], "uid": os.getuid(), "answers": answers, "received": received}
    return {**told, "exit": stopped["exit"], "left": left, **said, "status": status}


def limited(holder: Line) -> dict[str, Any]:
    """Without root: what is too large is ended by the holder, what is too many or too long is refused by the kernel."""

    def run(script: str) -> dict[str, Any]:
        return holder.ask({"verb": "run", "argv": ["bash", "-c", script], "timeout": 30})

    hog = run("python3 -c 'import time; x = b\"a\" * 400_000_000; time.sleep(60)'; echo still here")
    bomb = run("for n in $(seq 100); do sleep 2 & done 2>&1; wait")
    file = run("head -c 100M /dev/zero > big; ls -l big")
    return {
        "hog": hog["output"],
        "bomb": bomb["output"],
        "file": file["output"],
        "hits": holder.ask({"verb": "hits"})["hits"],
        "limits": holder.ask({"verb": "limits"})["limits"],
    }


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(Path(sys.argv[1]))))
