"""The address of who asks: behind trusted proxies the client's (`web.front`), else the connection's other end."""

from __future__ import annotations

from starlette.requests import HTTPConnection

from pilothouse.web.socket import UpgradeRequest

UNKNOWN = "-"


def peer(request: HTTPConnection) -> str:
    return request.client.host if request.client is not None else UNKNOWN


def upgrade_peer(request: UpgradeRequest) -> str:
    return request.client[0] if request.client is not None else UNKNOWN
