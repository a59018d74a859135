"""The peer of `bench/fanout.py` that one writes by hand: Starlette on uvicorn, a queue for each socket."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

queues: set[asyncio.Queue[str]] = set()


async def subscribe(websocket: WebSocket) -> None:
    await websocket.accept()
    queue: asyncio.Queue[str] = asyncio.Queue()
    queues.add(queue)

    async def send() -> None:
        while True:
            await websocket.send_text(await queue.get())

    sending = asyncio.create_task(send())
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect:
        pass
    finally:
        sending.cancel()
        queues.discard(queue)


async def publish(request: Request) -> JSONResponse:
    event = (await request.body()).decode()
    for queue in queues:
        queue.put_nowait(event)
    return JSONResponse({})


def main() -> None:
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    app = Starlette(routes=[WebSocketRoute("/", subscribe), Route("/publish", publish, methods=["POST"])])
    config = uvicorn.Config(app, log_level="critical", ws_ping_interval=None, backlog=2048)
    print(listening.getsockname()[1], flush=True)
    uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    main()
