"""Files in a bucket of S3, or of anything that speaks its protocol. A key is the object's name, below a prefix.

Content is checked on the way by its SHA-256 where it goes in one request, which S3 itself compares, and by its length
where it goes in parts. The sha256 of the whole is in the object's metadata. Keys do not share objects, so that a
lifecycle rule may end each by its prefix.

botocore is what boto3 is made of; it blocks, so it has threads of its own here: a slow endpoint holds nobody else. It
tries each request twice; whoever wants more patience tries again later.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar
from urllib.parse import quote

from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.session import Session

from pilothouse.core.errors import NotFound, Unavailable
from pilothouse.engine.ports import About

CHUNK = 256 * 1024
THREADS = 8
PART_MIN = 16 * 1024 * 1024
"""Longer files go in parts of this size: a cut connection costs one of them."""
PARTS_MAX = 9000
"""S3 takes 10,000."""
CONNECT_S, READ_S = 5, 30
_ABSENT = frozenset({"NoSuchKey", "404", "NotFound"})
P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Bucket:
    """Where, and as whom. Empty credentials: the AWS chain's."""

    name: str
    prefix: str = ""
    region: str = ""
    endpoint: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    profile: str = ""
    encryption: str = "AES256"
    kms_key: str = ""


class S3:
    def __init__(self, bucket: Bucket, *, part: int = PART_MIN, read_s: float = READ_S) -> None:
        self._bucket = bucket
        self._part = part
        self._read_s = read_s
        self._threads = ThreadPoolExecutor(THREADS, "s3")
        self._made: Any = None

    def _client(self) -> Any:
        """Made at the first use: it reads files, and may ask the network for credentials."""
        if self._made is None:
            session = Session(profile=self._bucket.profile or None)
            self._made = session.create_client(
                "s3",
                region_name=self._bucket.region or session.get_config_variable("region") or "us-east-1",
                endpoint_url=self._bucket.endpoint or None,
                aws_access_key_id=self._bucket.access_key or None,
                aws_secret_access_key=self._bucket.secret_key or None,
                config=Config(
                    connect_timeout=CONNECT_S,
                    read_timeout=self._read_s,
                    retries={"total_max_attempts": 2, "mode": "standard"},
                    s3={"addressing_style": "path" if self._bucket.endpoint else "auto"},
                    # Of other makes not all know the newer checksums.
                    request_checksum_calculation="when_required",
                    response_checksum_validation="when_required",
                    max_pool_connections=THREADS,
                ),
            )
        return self._made

    async def _ask(self, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, partial(act, *args, **kwargs))
        except ClientError as error:
            code = str(error.response.get("Error", {}).get("Code", ""))[:60]
            if code in _ABSENT:
                raise NotFound from None
            raise Unavailable(f"S3 says {code or 'no'}", code="storage") from None
        except BotoCoreError as error:
            raise Unavailable(f"S3 does not answer: {type(error).__name__}", code="storage") from None
        except OSError as error:
            raise Unavailable(f"S3 does not answer: {error.strerror}", code="storage") from None

    def _object(self, key: str) -> dict[str, str]:
        return {"Bucket": self._bucket.name, "Key": self._bucket.prefix + key}

    # --- writing ---

    async def put(self, key: str, file: Path, about: About) -> None:
        await self._ask(self._put, key, file, about)

    def _put(self, key: str, file: Path, about: About) -> None:
        more: dict[str, Any] = {"ContentType": about.media_type, "Metadata": {"sha256": about.sha256}}
        if self._bucket.encryption:
            more["ServerSideEncryption"] = self._bucket.encryption
        if self._bucket.kms_key:
            more["SSEKMSKeyId"] = self._bucket.kms_key
        if about.size > self._part:
            self._put_in_parts(key, file, about, more)
            return
        checksum = base64.b64encode(bytes.fromhex(about.sha256)).decode()
        with file.open("rb") as body:
            self._client().put_object(**self._object(key), Body=body, ChecksumSHA256=checksum, **more)

    def _put_in_parts(self, key: str, file: Path, about: About, more: dict[str, Any]) -> None:
        client, target = self._client(), self._object(key)
        upload = client.create_multipart_upload(**target, **more)["UploadId"]
        size = max(self._part, -(-about.size // PARTS_MAX))
        try:
            parts: list[dict[str, Any]] = []
            sent = 0
            with file.open("rb") as body:
                while data := body.read(size):
                    number = len(parts) + 1
                    done = client.upload_part(**target, UploadId=upload, PartNumber=number, Body=data)
                    parts.append({"PartNumber": number, "ETag": done["ETag"]})
                    sent += len(data)
            if sent != about.size:
                raise OSError(0, "the file is not what it was")
            client.complete_multipart_upload(**target, UploadId=upload, MultipartUpload={"Parts": parts})
        except BaseException:
            self._abort(target, upload)
            raise

    def _abort(self, target: dict[str, str], upload: str) -> None:
        """Its parts would be paid for. Where nobody answers now, the bucket's lifecycle rule sees to it."""
        try:
            self._client().abort_multipart_upload(**target, UploadId=upload)
        except (BotoCoreError, ClientError, OSError):
            return

    # --- reading ---

    async def read(self, key: str, start: int = 0, end: int | None = None) -> Body:
        asked = {} if start == 0 and end is None else {"Range": f"bytes={start}-{'' if end is None else end - 1}"}
        if end is not None and end <= start:
            await self._ask(lambda: self._client().head_object(**self._object(key)))
            return Body(None, 0, self._ask)
        answer = await self._ask(lambda: self._client().get_object(**self._object(key), **asked))
        return Body(answer["Body"], int(answer["ContentLength"]), self._ask)

    async def has(self, key: str, about: About) -> bool:
        try:
            head = await self._ask(lambda: self._client().head_object(**self._object(key)))
        except NotFound:
            return False
        return (head["ContentLength"], head.get("Metadata", {}).get("sha256")) == (about.size, about.sha256)

    # --- removing ---

    async def drop(self, prefix: str) -> None:
        await self._ask(self._drop, prefix)

    def _drop(self, prefix: str) -> None:
        client, bucket = self._client(), self._bucket.name
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=self._bucket.prefix + prefix)
        for page in pages:
            found = [{"Key": one["Key"]} for one in page.get("Contents", [])]
            if not found:
                continue
            answer = client.delete_objects(Bucket=bucket, Delete={"Objects": found, "Quiet": True})
            if errors := answer.get("Errors"):
                raise ClientError({"Error": {"Code": errors[0].get("Code", "")}}, "DeleteObjects")

    # --- where ---

    def place(self, key: str) -> tuple[str | None, str | None]:
        """The console is AWS's: other makes have none that we know."""
        name = self._bucket.prefix + key
        address = f"s3://{self._bucket.name}/{name}"
        if self._bucket.endpoint:
            return address, None
        region = self._bucket.region or "us-east-1"
        page = f"https://{region}.console.aws.amazon.com/s3/object/{quote(self._bucket.name, safe='')}"
        return address, f"{page}?region={region}&prefix={quote(name, safe='')}"

    async def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._made is not None:
            self._made.close()


class Body:
    """An object's bytes. One that ends before its time has broken off."""

    def __init__(self, stream: Any, size: int, ask: Callable[..., Any]) -> None:
        self._stream = stream
        self._left = size
        self._ask = ask

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self._left > 0:
            data: bytes = await self._ask(self._stream.read, min(CHUNK, self._left))
            if not data:
                raise Unavailable("S3 broke off", code="storage")
            self._left -= len(data)
            yield data

    def close(self) -> None:
        if self._stream is not None:
            self._stream.close()
