"""Where an exit pack goes: a bucket of a store that speaks S3. A small shell around boto3.

A pack is whole there when its pack.json and the note over it are, which are put last. Every part goes with its SHA-256,
which the store checks; where it does not say so, its ETag is held against the MD5.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Iterator
from typing import Any, Final

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from appliance.config.exits import ExitBucket
from appliance.model import EarwitnessError
from appliance.packs.errors import ExitSpaceError, ExitTargetAwayError
from appliance.packs.exittargets import MARKER, Written

log = structlog.get_logger()

PART: Final = 8 << 20  # bytes: 10,000 parts are 80 GiB
_FULL: Final = frozenset({"QuotaExceeded", "XMinioStorageFull", "507", "InsufficientStorage"})
_MARKER_TEXT: Final = b"This exit pack is being written. When it is whole, this object is gone.\n"


class BucketTarget:
    """See exittargets.Target."""

    def __init__(self, settings: ExitBucket, prefix: str, name: str) -> None:
        self._bucket = settings.bucket
        self._root = "/".join(filter(None, (settings.prefix.strip("/"), prefix.strip("/"), name)))
        try:
            key_id, secret = settings.credentials()
        except (OSError, UnicodeDecodeError) as error:
            raise ExitTargetAwayError(
                "the bucket's credentials cannot be read", code="CREDENTIALS"
            ) from error
        self._s3: Any = boto3.client(
            "s3",
            endpoint_url=settings.endpoint,
            region_name=settings.region,
            aws_access_key_id=key_id,
            aws_secret_access_key=secret,
            verify=str(settings.ca) if settings.ca is not None else None,
            config=Config(
                connect_timeout=10,
                read_timeout=60,
                retries={"max_attempts": 3, "mode": "standard"},
                s3={"addressing_style": "path" if settings.path_style else "auto"},
                proxies={},
            ),
        )

    @property
    def place(self) -> str:
        """Where the pack will be."""
        return f"s3://{self._bucket}/{self._root}"

    def enter(self) -> None:
        """See Target."""
        try:
            self._s3.head_bucket(Bucket=self._bucket)
        except (BotoCoreError, ClientError) as error:
            raise _told(error) from error

    def open(self, *, begun: bool) -> bool:
        """See Target."""
        try:
            if begun:
                if self._there(MARKER):
                    return False
                if self._there("pack.json.note"):
                    return True
                raise ExitTargetAwayError("what was written of the pack is not there", code="PACK_AWAY")
            self.put(MARKER, [_MARKER_TEXT])
        except (BotoCoreError, ClientError) as error:
            raise _told(error) from error
        return False

    def _there(self, path: str) -> bool:
        try:
            self._s3.head_object(Bucket=self._bucket, Key=f"{self._root}/{path}")
        except ClientError as error:
            if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") == 404:
                return False
            raise
        return True

    def put(self, path: str, pieces: Iterable[bytes]) -> Written:
        """See Target."""
        key, parts = f"{self._root}/{path}", _parts(pieces)
        digest = hashlib.sha256()
        first = next(parts, b"")
        second = next(parts, None)
        digest.update(first)
        try:
            if second is None:
                self._checked(self._s3.put_object, first, Bucket=self._bucket, Key=key)
                return Written(path, len(first), digest.hexdigest())
            size = self._many(key, digest, first, second, parts)
        except (BotoCoreError, ClientError) as error:
            raise _told(error) from error
        return Written(path, size, digest.hexdigest())

    def _many(self, key: str, digest: Any, first: bytes, second: bytes, rest: Iterator[bytes]) -> int:
        upload = self._s3.create_multipart_upload(Bucket=self._bucket, Key=key, ChecksumAlgorithm="SHA256")[
            "UploadId"
        ]
        done: list[dict[str, Any]] = []
        size = 0
        try:
            for number, part in enumerate(_after(first, second, rest), 1):
                if number > 1:
                    digest.update(part)
                size += len(part)
                told = self._checked(
                    self._s3.upload_part,
                    part,
                    Bucket=self._bucket,
                    Key=key,
                    UploadId=upload,
                    PartNumber=number,
                )
                known: dict[str, Any] = {
                    name: told[name] for name in ("ETag", "ChecksumSHA256") if name in told
                }
                done.append({"PartNumber": number, **known})
            self._s3.complete_multipart_upload(
                Bucket=self._bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done}
            )
        except BaseException:
            self._s3.abort_multipart_upload(Bucket=self._bucket, Key=key, UploadId=upload)
            raise
        return size

    def _checked(self, call: Any, body: bytes, **more: Any) -> dict[str, Any]:
        wanted = base64.b64encode(hashlib.sha256(body).digest()).decode()
        told: dict[str, Any] = call(Body=body, ChecksumSHA256=wanted, **more)
        said = told.get("ChecksumSHA256")
        etag = str(told.get("ETag", "")).strip('"')
        plain = hashlib.md5(body, usedforsecurity=False).hexdigest()
        # An ETag is the MD5 but where the store encrypts under a key of its own: then the checksum must be there.
        if said != wanted and (said is not None or etag != plain):
            raise ExitTargetAwayError("the store took other bytes than were sent", code="CHECKSUM")
        return told

    def finish(self, ending: str = "") -> str:
        """See Target. Keys cannot be renamed: a part says in its pack.json that it is one."""
        try:
            self._s3.delete_object(Bucket=self._bucket, Key=f"{self._root}/{MARKER}")
        except (BotoCoreError, ClientError) as error:
            raise _told(error) from error
        return self.place

    def drop(self, path: str) -> None:
        """See Target."""
        self._delete(f"{self._root}/{path}")

    def remove(self) -> None:
        """See Target."""
        self._delete(f"{self._root}/")

    def _delete(self, beginning: str) -> None:
        try:
            pages = self._s3.get_paginator("list_objects_v2")
            for page in pages.paginate(Bucket=self._bucket, Prefix=beginning):
                for one in page.get("Contents", ()):
                    self._s3.delete_object(Bucket=self._bucket, Key=one["Key"])
            self._abort(beginning)
        except (BotoCoreError, ClientError) as error:
            raise _told(error) from error

    def _abort(self, beginning: str) -> None:
        """Parts of what a kill broke off lie in the store, though nobody sees them."""
        try:
            pages = self._s3.get_paginator("list_multipart_uploads")
            for page in pages.paginate(Bucket=self._bucket, Prefix=beginning):
                for one in page.get("Uploads", ()):
                    self._s3.abort_multipart_upload(
                        Bucket=self._bucket, Key=one["Key"], UploadId=one["UploadId"]
                    )
        except ClientError as error:  # not every store lists them, or lets this be done
            code = str(error.response.get("Error", {}).get("Code", "S3"))[:60]
            log.warning("uploads that broke off are not looked for", bucket=self._bucket, code=code)

    def free(self) -> int | None:
        """See Target."""
        return None

    def close(self) -> None:
        self._s3.close()


def _parts(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Joined to parts of PART bytes, the last one shorter."""
    held = bytearray()
    for piece in pieces:
        held += piece
        while len(held) >= PART:
            yield bytes(held[:PART])
            del held[:PART]
    if held:
        yield bytes(held)


def _after(first: bytes, second: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield second
    yield from rest


def _told(error: BotoCoreError | ClientError) -> EarwitnessError:
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", "S3"))[:60]
        if code in _FULL:
            return ExitSpaceError("the store has no space for the exit pack", needed=0, free=0)
        return ExitTargetAwayError("the store refuses the exit pack", code=code)
    return ExitTargetAwayError("the store does not answer", code=type(error).__name__)
