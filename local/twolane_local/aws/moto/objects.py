"""Keeps S3 objects on disk: each is in a file before its upload is answered.

Only the latest version of an object is kept, with its metadata but without tags. A file is written
aside and renamed, so that a kill leaves the former one.
"""

from __future__ import annotations

import hashlib
import json
import threading
from typing import TYPE_CHECKING, Any

from twolane_local.model import ACCOUNT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

FOLDER = "objects"
#: Held by each request to S3. moto closes the file of an object when it is overwritten, even while
#: another request reads it.
REQUESTS = threading.RLock()
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class OneObjectRequest:
    """A WSGI app in front of moto's that passes on one request to S3 at a time."""

    def __init__(self, app: Wsgi) -> None:
        self._app = app

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if not is_s3(environ):
            return self._app(environ, start_response)
        with REQUESTS:
            return list(self._app(environ, start_response))


class ObjectFiles:
    """A WSGI app in front of moto's. Call ``restore`` once, when the buckets exist."""

    def __init__(self, app: Wsgi, directory: Path) -> None:
        self._app = app
        self._folder = directory / FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._kept: dict[str, set[str]] = {}

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in _READS or not is_s3(environ):
            return self._app(environ, start_response)
        seen: list[str] = []

        def started(status: str, headers: Any, error: Any = None) -> Any:
            seen.append(status)
            return start_response(status, headers, error)

        with REQUESTS:
            answer = list(self._app(environ, started))
            if seen and seen[0].startswith("2"):
                bucket, key = target(environ, _backend().buckets)
                self._keep(bucket, {key} if key else None)
        return answer

    def _keep(self, bucket: str, keys: set[str] | None) -> None:
        """Update the files of these objects, or of all objects in the bucket."""
        kept = self._kept.setdefault(bucket, set())
        if keys is None:  # several were deleted, or a form was posted
            keys = kept ^ _keys(bucket)
        for key in keys:
            found = _latest(bucket, key)
            if found is None:
                self._file(bucket, key).unlink(missing_ok=True)
                kept.discard(key)
            else:
                self._write(bucket, key, found)
                kept.add(key)

    def _write(self, bucket: str, key: str, found: Any) -> None:
        head = {"bucket": bucket, "key": key, "metadata": dict(found.metadata)}
        file = self._file(bucket, key)
        aside = file.with_suffix(".new")
        aside.write_bytes(json.dumps(head).encode() + b"\n" + found.value)
        aside.replace(file)

    def _file(self, bucket: str, key: str) -> Path:
        # Keys may be longer than file names, and contain characters that file names may not.
        return self._folder / hashlib.sha256(f"{bucket}/{key}".encode()).hexdigest()

    def restore(self) -> None:
        """Put the kept objects into their buckets, before notifications are on.

        Objects of a bucket that the template has dropped stay in their files.
        """
        with REQUESTS:
            backend = _backend()
            for file in self._folder.iterdir():
                if file.suffix:
                    file.unlink()
                    continue
                head, _, value = file.read_bytes().partition(b"\n")
                kept = json.loads(head)
                bucket, key = kept["bucket"], kept["key"]
                if bucket in backend.buckets:
                    backend.put_object(bucket, key, value).set_metadata(
                        kept["metadata"], replace=True
                    )
                    self._kept.setdefault(bucket, set()).add(key)


def is_s3(environ: dict[str, Any]) -> bool:
    """True for a call that was signed for S3, in its header or in its query."""
    return "/s3/aws4_request" in environ.get("HTTP_AUTHORIZATION", "") or (
        "%2Fs3%2Faws4_request" in environ.get("QUERY_STRING", "")
    )


def target(environ: dict[str, Any], buckets: Iterable[str]) -> tuple[str, str]:
    """The bucket and key of a call, from its host name or path; the key is empty for a bucket.

    https://docs.aws.amazon.com/AmazonS3/latest/userguide/VirtualHosting.html
    """
    path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace").lstrip("/")
    host = environ.get("HTTP_HOST", "")
    for bucket in buckets:
        if host.startswith(f"{bucket}."):
            return bucket, path
    bucket, _, key = path.partition("/")
    return bucket, key


def _backend() -> Any:
    from moto.s3.models import s3_backends

    return s3_backends[ACCOUNT]["aws"]


def _latest(bucket: str, key: str) -> Any:
    """The latest version of an object in moto, ``None`` if it or its bucket does not exist."""
    backend = _backend()
    return backend.get_object(bucket, key) if bucket in backend.buckets else None


def _keys(bucket: str) -> set[str]:
    backend = _backend()
    if bucket not in backend.buckets:
        return set()
    return {key for key in backend.buckets[bucket].keys if _latest(bucket, key) is not None}
