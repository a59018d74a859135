"""The HTTP API's bodies and answers, as types: what its handlers take and give, what the OpenAPI document says, and
what the client reads are these, once.

JSON, camelCase; a `Body` is what a caller sends and unknown fields in it are refused by name; an `Answer` leaves out
what has its default, and a reader lets further fields pass. A field that an answer got later has a default, so that a
client reads older servers too. What the wire says with a word of a list is text here (`Annotated` with the list): a
newer server's word must not stop a reader.
"""

from __future__ import annotations

from pilothouse.core.api.base import Answer, Body, Everything, Page, Problem

__all__ = ["Answer", "Body", "Everything", "Page", "Problem"]
