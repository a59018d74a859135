"""Idle sessions: what each costs in memory, and how long one takes from being asked for to being ready.

    python bench/sessions.py [--count 100]

ours      a keeper, and for each session its holder, its sandbox (two processes of bwrap) and the first process inside;
          no runner and no agent: those start at the first prompt
bwrap     the same sandbox by hand: `bwrap --unshare-all ... sleep`, nobody who could reach it afterwards
python    a bare `python -I -S` that waits: the least that a process of ours could be without sharing

Memory is PSS (each shared page divided among its users), read from the kernel after all have started. "ours" is what we
add: holder and first process. Times are from the request at the keeper's socket to its answer, which comes when the
first process has said that it is ready; for the peers until the first byte from inside. All in one run, ten of each in
turns, so that a busy machine is busy for all of them. Without `--image` sessions have no disk image: making one takes
as long as mkfs and mount do.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from pilothouse.adapters.sandboxes import client, interpreter

KEEPER = (sys.executable, "-m", "pilothouse.keeper", "--no-proxy")
SETTLE_S = 1.0
BLOCK = 10
"""Of one kind in a row: one at a time would measure how cold the other two leave the processor's caches."""
MEMORY_MAX = 2.5
"""MB of ours for each idle session: the design's limit."""
READY_MAX = 25.0
"""ms to ready, p50: likewise."""


def pss(pid: int) -> int:
    """Bytes; 0 for one that has ended."""
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            found[int(entry.read_text().rpartition(")")[2].split()[1])].append(int(entry.parent.name))
    return found


def walk(pid: int, tree: dict[int, list[int]]) -> Iterator[int]:
    for child in tree.get(pid, []):
        yield child
        yield from walk(child, tree)


def kind(pid: int) -> str:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if Path(os.fsdecode(words[0])).name == "bwrap":
            return "bwrap"
        return "first process" if words[0].endswith(b"/sleep") else "holder"
    return "gone"


async def opened(keeper: Path, session: str, *, image: bool) -> float:
    began = time.perf_counter()
    request = {"verb": "open", "session": session, "sandbox": "bubblewrap", "agent": "echo", "image": image}
    await client.ask(keeper, request)
    return time.perf_counter() - began


def started(argv: list[str]) -> tuple[subprocess.Popen[bytes], float]:
    began = time.perf_counter()
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.read(1)
    return process, time.perf_counter() - began


BWRAP = (
    "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink", "usr/bin", "/bin",
    "--symlink", "usr/lib", "/lib", "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev",
    "--tmpfs", "/tmp", "--", "/bin/sh", "-c",
)  # fmt: skip


def peers() -> dict[str, list[str]]:
    bwrap = interpreter.bwrap()
    assert bwrap is not None, "bubblewrap is not installed"
    wait = "import sys; sys.stdout.write('x'); sys.stdout.flush(); sys.stdin.read()"
    return {
        "bwrap": [bwrap, *BWRAP, "echo x; exec cat"],
        "python": [interpreter.on_host().executable, "-I", "-S", "-c", wait],
    }


def row(name: str, times: list[float], memory: float) -> str:
    ms = sorted(t * 1000 for t in times)
    p95 = ms[min(len(ms) - 1, int(len(ms) * 0.95))]
    return f"{name:10}  {statistics.median(ms):8.1f}  {p95:8.1f}  {memory:10.2f}"


async def measure(count: int, base: Path, *, image: bool) -> None:
    layout = await client.ensure_keeper(base / "h", base / "r", partial(client.start, argv=KEEPER))
    sessions = [str(uuid.uuid4()) for _ in range(count)]
    times: dict[str, list[float]] = defaultdict(list)
    running: dict[str, list[subprocess.Popen[bytes]]] = defaultdict(list)
    try:
        await opened(layout.keeper, str(uuid.uuid4()), image=image)  # what is only done once
        for at in range(0, count, BLOCK):
            block = sessions[at : at + BLOCK]
            times["ours"] += [await opened(layout.keeper, session, image=image) for session in block]
            for name, argv in peers().items():
                for _ in block:
                    process, took = started(argv)
                    running[name].append(process)
                    times[name].append(took)
        await asyncio.sleep(SETTLE_S)
        report(count, layout.runtime, times, running)
    finally:
        for process in (p for group in running.values() for p in group):
            process.kill()
            process.wait()
        await client.ask(layout.keeper, {"verb": "stop_all"}, patience=60 + count)


def report(
    count: int, runtime: Path, times: dict[str, list[float]], running: dict[str, list[subprocess.Popen[bytes]]]
) -> None:
    tree, parts = children(), dict.fromkeys(("holder", "first process", "bwrap"), 0)
    keeper = next(p for p in tree[1] if runtime.as_posix().encode() in Path(f"/proc/{p}/cmdline").read_bytes())
    zygote = tree[keeper][0]
    for pid in walk(zygote, tree):
        if (what := kind(pid)) in parts:
            parts[what] += pss(pid)
    mb = {name: total / (count + 1) / 1e6 for name, total in parts.items()}
    ours = mb["holder"] + mb["first process"]
    peer = {n: sum(pss(p) for q in g for p in (q.pid, *walk(q.pid, tree))) / count / 1e6 for n, g in running.items()}
    say = sys.stdout.write
    say(f"{count} idle sessions, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} processors\n\n")
    say(f"{'':10}  {'p50 ms':>8}  {'p95 ms':>8}  {'PSS MB each':>10}\n")
    say(row("ours", times["ours"], ours + mb["bwrap"]) + "\n")
    for name in peer:
        say(row(name, times[name], peer[name]) + "\n")
    say("\nof ours: " + ", ".join(f"{name} {value:.2f} MB" for name, value in mb.items()))
    say(f"; the keeper {pss(keeper) / 1e6:.1f} MB once\n")
    ready = statistics.median(times["ours"]) * 1000
    say(f"holder + first process {ours:.2f} MB (at most {MEMORY_MAX}), ")
    say(f"ready {ready:.1f} ms p50 (at most {READY_MAX:.0f})\n")


def main() -> None:
    parser = argparse.ArgumentParser(description="What an idle session costs.")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--image", action="store_true", help="each session with a disk image of its own (root only)")
    given = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="ph-"))
    try:
        asyncio.run(measure(given.count, base, image=given.image))
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
