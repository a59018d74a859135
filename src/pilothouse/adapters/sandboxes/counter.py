"""The serving side of a control socket, for keeper and holder alike: who may come, `hello` first, one line at a time.

A peer of another uid is hung up on at once. Bytes that are no message, a line too long, or a request before `hello` get
an answer that says so and the end of that connection; nobody else notices. A client that does not read is dropped.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pilothouse
from pilothouse.adapters.sandboxes import fdpass

PROTO = 1
CLIENTS_MAX = 64
"""The server's requests in flight, the proxy, a command line or two; more is a mistake."""

Message = dict[str, Any]


@dataclass(eq=False)
class Client:
    lines: fdpass.Lines
    greeted: bool = False
    watching: bool = False

    @property
    def gone(self) -> bool:
        return self.lines.sock.fileno() < 0


class Counter:
    def __init__(
        self,
        selector: selectors.BaseSelector,
        listening: socket.socket,
        allowed_uids: tuple[int, ...],
        greeting: Message,
        act: Callable[[Client, Message], None],
    ) -> None:
        self._selector = selector
        self._listening = listening
        self._allowed = allowed_uids
        self._greeting = greeting
        self._act = act
        self.clients: list[Client] = []
        selector.register(listening, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        try:
            sock, _ = self._listening.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        if fdpass.peer_uid(sock) not in self._allowed or len(self.clients) >= CLIENTS_MAX:
            sock.close()
            return
        self.join(sock)

    def join(self, sock: socket.socket, *, watching: bool = False) -> None:
        """A connection that needs no hello is one that was there from the start."""
        sock.setblocking(False)
        client = Client(fdpass.Lines(sock), watching, watching)
        self.clients.append(client)
        self._selector.register(sock, selectors.EVENT_READ, lambda: self._readable(client))

    def _readable(self, client: Client) -> None:
        try:
            client.lines.feed()
            client.lines.drop_fds()
            while not client.gone and (message := client.lines.next()) is not None:
                self._request(client, message)
        except fdpass.Broken as error:
            self.say(client, {"ok": False, "error": str(error)})
            self.drop(client)
        if client.lines.ended:
            self.drop(client)

    def _request(self, client: Client, message: Message) -> None:
        if message.get("verb") != "hello":
            if not client.greeted:
                raise fdpass.Broken("say hello first")
            self._act(client, message)
            return
        if message.get("proto") != PROTO:
            raise fdpass.Broken(f"protocol {str(message.get('proto'))[:20]}, expected {PROTO}")
        client.greeted = True
        client.watching = message.get("watch") is True
        me = {"proto": PROTO, "version": pilothouse.__version__, "pid": os.getpid()}
        self.say(client, {"ok": True, **me, **self._greeting})

    def drop(self, client: Client) -> None:
        if not client.gone:
            self._selector.unregister(client.lines.sock)
            client.lines.sock.close()
            self.clients.remove(client)

    def say(self, client: Client, message: Message, fds: tuple[int, ...] = ()) -> None:
        if client.gone:
            return
        try:
            fdpass.send(client.lines.sock, message, fds)
        except OSError:
            self.drop(client)


def turn(selector: selectors.BaseSelector, pause: float | None) -> None:
    """One round of a loop whose data are calls. What an earlier call of the same round closed is left alone."""
    for key, _ in selector.select(pause):
        if selector.get_map().get(key.fd) is key:
            with contextlib.suppress(BlockingIOError):
                key.data()
