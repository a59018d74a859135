"""The document itself, and its page."""

from __future__ import annotations

from typing import Any

from pilothouse.web.operations.base import Operation, Said

GROUP = "This document"

ETAG = {"ETag": "Of these very bytes."}
SAME = Said("It is as `If-None-Match` says.", headers=ETAG)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        "GET", "/openapi.json", GROUP, "This document",
        {200: Said("OpenAPI 3.1.", dict[str, Any], {"openapi": "3.1.1"}, headers=ETAG), 304: SAME},
    ),
    Operation(
        "GET", "/docs", GROUP, "This document, to read",
        {200: Said("A page.", media="text/html", headers=ETAG), 304: SAME},
    ),
)  # fmt: skip
