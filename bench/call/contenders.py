"""Who is measured: the real program, and the agent's own command line beside it, both with one demo model."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from terminal import contenders as terminal

START_S = 30.0
FLAGS = (
    "-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose", "--include-partial-messages",
    "--strict-mcp-config", "--setting-sources", "",
)  # fmt: skip


@contextlib.contextmanager
def demo_model() -> Iterator[str]:
    """Its address. It answers at once."""
    with tempfile.TemporaryDirectory(prefix="ph-demo-") as name:
        port = Path(name) / "port"
        argv = [sys.executable, "-m", "pilothouse.adapters.models.demo", "--port", "0", "--port-file", str(port)]
        process = subprocess.Popen(argv)
        try:
            deadline = time.monotonic() + START_S
            while not (port.exists() and port.read_text().strip()):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError("the demo model does not start")
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port.read_text().strip()}"
        finally:
            process.terminate()
            process.wait()


class Pilothouse(terminal.Pilothouse):
    """One sandbox with a runner is kept ready."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def environment(self) -> dict[str, str]:
        return {
            "PILOTHOUSE_SPARES": "1",
            "PILOTHOUSE_SESSIONS_MAX": "1000",
            "ANTHROPIC_BASE_URL": self._model,
            "ANTHROPIC_API_KEY": "bench",
        }

    @property
    def key(self) -> str:
        return self.headers[0].partition(": ")[2]

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return self._ask(method, path, body)


class Direct:
    """Claude Code as somebody runs it by hand: a process that is told prompts as lines of JSON."""

    def __init__(self, model: str, folder: Path) -> None:
        spec = find_spec("claude_agent_sdk")
        if spec is None or spec.origin is None:
            raise terminal.Missing("claude_agent_sdk is not installed")
        (folder / "work").mkdir()
        self._argv = [str(Path(spec.origin).parent / "_bundled" / "claude"), *FLAGS]
        self._folder = folder / "work"
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "CLAUDE_CONFIG_DIR": str(folder / "config"),
            "ANTHROPIC_BASE_URL": model,
            "ANTHROPIC_API_KEY": "bench",
            "DISABLE_AUTOUPDATER": "1",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        }
        self._process: subprocess.Popen[bytes] | None = None

    def first(self, prompt: str) -> float:
        """Seconds to the first text of the answer, which is then read to its end. Started, if it does not run."""
        began = time.perf_counter()
        if self._process is None:
            self._process = subprocess.Popen(
                self._argv, cwd=self._folder, env=self._env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        said = {"type": "user", "message": {"role": "user", "content": prompt}, "uuid": str(uuid.uuid4())}
        self._process.stdin.write(json.dumps(said).encode() + b"\n")
        self._process.stdin.flush()
        first, dog = 0.0, threading.Timer(START_S, self._process.kill)
        dog.start()
        try:
            for line in self._process.stdout:
                if not first and b'"text_delta"' in line:
                    first = time.perf_counter() - began
                if b'"type":"result"' in line and json.loads(line)["type"] == "result":
                    return first
        finally:
            dog.cancel()
        raise RuntimeError("the agent ended before its answer")

    def end(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(START_S)
            self._process = None
