"""The peer of `bench/terminals.py`: terminado as its documentation has it, one shell per WebSocket."""

from __future__ import annotations

import asyncio

import terminado
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application


async def main() -> None:
    shells = terminado.UniqueTermManager(shell_command=["bash", "--norc", "--noprofile"])
    server = HTTPServer(Application([(r"/websocket", terminado.TermSocket, {"term_manager": shells})]))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    print(sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
