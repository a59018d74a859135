"""Stands in for `pilothouse serve` where only starting and stopping is tested: `serve.py HOME MODE`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

home, mode = Path(sys.argv[1]), sys.argv[2]
if mode == "refuses":
    sys.exit("server.port: nonsense\n")
asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        asked.append(self.path)
        ready = mode != "slow" or len(asked) > 3
        self.send_response(200 if ready else 503)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
home.mkdir(exist_ok=True)
(home / "local.key").write_text("ph_local\n")
(home / "server.json").write_text(json.dumps({"url": f"http://127.0.0.1:{server.server_port}", "pid": os.getpid()}))
signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
server.serve_forever()
(home / "server.json").unlink()
