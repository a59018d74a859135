"""Pictures that come with a prompt: what is accepted, and what of them is logged.

The log says name, media type and size; the bytes are kept beside it and go to the agent with the prompt.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from pilothouse.core import events as ev
from pilothouse.core.chat import Attached
from pilothouse.core.errors import BadRequest, TooLarge

PICTURES = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff",
    "image/gif": b"GIF8",
    "image/webp": b"RIFF",
}
"""What models take, and how each begins: a name alone is not believed."""
BYTES_MAX = 5 * 1024 * 1024
"""Of all pictures of one prompt: what the link can carry in one message, base64 included."""


@dataclass(frozen=True, slots=True)
class Picture:
    meta: ev.Attachment
    data: bytes

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


def pictures(given: Sequence[Attached]) -> list[Picture]:
    """Raises BadRequest naming the attachment, TooLarge."""
    out: list[Picture] = []
    for one in given:
        name = one.name[:100]
        if one.media_type not in PICTURES:
            raise BadRequest(
                f"attachments: {name!r} is {one.media_type or 'untyped'}, accepted are {', '.join(PICTURES)}"
            )
        try:
            data = base64.b64decode(one.data, validate=True)
        except (binascii.Error, ValueError):
            raise BadRequest(f"attachments: the data of {name!r} is not base64") from None
        if not data.startswith(PICTURES[one.media_type]):
            raise BadRequest(f"attachments: {name!r} is not what {one.media_type} looks like")
        out.append(Picture(ev.Attachment(name=name, media_type=one.media_type, size=len(data)), data))
    if sum(len(p.data) for p in out) > BYTES_MAX:
        raise TooLarge(f"attachments: at most {BYTES_MAX} bytes in all")
    return out
