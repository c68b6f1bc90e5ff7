"""S3 objects that outlive the moto process: each is a file before its upload is answered.

The latest version of each object, with its metadata, for the buckets of the template; tags and
older versions are not kept. A file is written aside and renamed: a kill leaves the former one.
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
#: Held by each request to S3. moto closes the file behind an object when it is overwritten, also
#: under a request that reads it.
REQUESTS = threading.RLock()
_READS = frozenset({"GET", "HEAD", "OPTIONS"})


class OneObjectRequest:
    """A WSGI app in front of moto's: S3 does one request at a time."""

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
    """A WSGI app in front of moto's. ``restore`` comes after the buckets are there, once."""

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
        """Bring the files of these objects, or of all in the bucket, to what moto has now."""
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
        # Keys may be longer than a file's name, and hold what a file's name may not.
        return self._folder / hashlib.sha256(f"{bucket}/{key}".encode()).hexdigest()

    def restore(self) -> None:
        """Put all that was kept into the buckets; before anyone is to be told of new objects.

        What belongs to a bucket that the template has no more stays in its file.
        """
        with REQUESTS:
            backend = _backend()
            for file in self._folder.iterdir():
                if file.suffix:
                    file.unlink()
                    continue
                head, _, value = file.read_bytes().partition(b"\n")
                told = json.loads(head)
                bucket, key = told["bucket"], told["key"]
                if bucket in backend.buckets:
                    backend.put_object(bucket, key, value).set_metadata(
                        told["metadata"], replace=True
                    )
                    self._kept.setdefault(bucket, set()).add(key)


def is_s3(environ: dict[str, Any]) -> bool:
    """Whether a call was signed for S3, in its header or in its address."""
    return "/s3/aws4_request" in environ.get("HTTP_AUTHORIZATION", "") or (
        "%2Fs3%2Faws4_request" in environ.get("QUERY_STRING", "")
    )


def target(environ: dict[str, Any], buckets: Iterable[str]) -> tuple[str, str]:
    """Bucket and key that a call is for, by host name or by path; an empty key for the bucket.

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
    """The object as moto has it, ``None`` where it has none; a bucket may be gone."""
    backend = _backend()
    return backend.get_object(bucket, key) if bucket in backend.buckets else None


def _keys(bucket: str) -> set[str]:
    backend = _backend()
    if bucket not in backend.buckets:
        return set()
    return {key for key in backend.buckets[bucket].keys if _latest(bucket, key) is not None}
