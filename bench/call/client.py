"""The load client: plain sockets, one small asyncio loop for all of them."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

HEAD = "POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nx-api-key: {key}\r\ncontent-type: application/json\r\n"
Wish = Callable[[int], dict[str, Any]]
"""What the client of a number asks for."""


class Client:
    def __init__(self, port: int, key: str) -> None:
        self._port = port
        self._key = key

    def request(self, path: str, body: dict[str, Any], **headers: str) -> bytes:
        data = json.dumps(body).encode()
        head = HEAD.format(path=path, port=self._port, key=self._key)
        more = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return f"{head}{more}content-length: {len(data)}\r\n\r\n".encode() + data

    async def first(self, body: dict[str, Any]) -> tuple[float, str]:
        """Seconds from connecting to the first text of a stream of `/invoke`, and its session; all of it is read."""
        began = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(self.request("/invoke", body, accept="text/event-stream"))
        first, session = 0.0, ""
        async for line in reader:
            if not first and b'"type":"stream"' in line:
                first = time.perf_counter() - began
            if b'"type":"complete"' in line:
                event = json.loads(line.partition(b"data: ")[2])
                if event["outcome"] != "succeeded":
                    raise RuntimeError(f"the job failed: {event['result'][:300]}")
                session = event["sessionId"]
                break
        writer.close()
        if not first:
            raise RuntimeError("the stream ended without a text")
        return first, session

    async def triggered(
        self, clients: int, each: int, wish: Callable[[int], dict[str, Any]]
    ) -> tuple[float, list[float]]:
        """So many clients at once, each on a connection of its own, one call after another: how many a second were
        accepted, and the seconds that each took."""
        ready = [await asyncio.open_connection("127.0.0.1", self._port) for _ in range(clients)]
        requests = [[self.request("/trigger", wish(n)) for _ in range(each)] for n in range(clients)]
        times: list[float] = []

        async def one(number: int) -> None:
            reader, writer = ready[number]
            for request in requests[number]:
                began = time.perf_counter()
                writer.write(request)
                head = await reader.readuntil(b"\r\n\r\n")
                size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
                body = await reader.readexactly(size)
                times.append(time.perf_counter() - began)
                if b" 202 " not in head[:20]:
                    raise RuntimeError(f"refused: {body[:300]!r}")

        began = time.perf_counter()
        await asyncio.gather(*(one(number) for number in range(clients)))
        took = time.perf_counter() - began
        for _, writer in ready:
            writer.close()
        return clients * each / took, times
