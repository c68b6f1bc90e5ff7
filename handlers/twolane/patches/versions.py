"""Older versions of Celery, kombu and Starlette lack some of the things that the runtime
asks for; each function returns the nearest that there is, and names the version that brought the
thing.
"""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twolane.patches import release

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: As many as kombu's own batch takes; ours sends as soon as a request is full.
_BATCH_SIZE = 1000


@contextmanager
def batch(producer: Any) -> Iterator[None]:
    """``producer.batch()`` (kombu 5.7). Before that, our channel keeps the batch of each thread.

    A batch within a batch is the outer one's; an exception drops what has not left.
    """
    if hasattr(producer, "batch"):
        with producer.batch():
            yield
        return
    channel, thread = producer.channel, threading.get_ident()
    if thread in channel.batches:
        yield
        return
    started = channel.batches[thread] = channel.create_publish_batch(max_size=_BATCH_SIZE)
    try:
        yield
    finally:
        del channel.batches[thread]
    started.flush()


def paths_have_root() -> bool:
    """True if the application finds its routes below ``root_path``: Starlette does since 0.35."""
    version = getattr(sys.modules.get("starlette"), "__version__", None)
    return version is None or release(version) >= (0, 35)


def acks_on_failure(task: Any) -> bool:
    """Celery 5.7 has the setting for failures apart from the one for time limits."""
    own = getattr(task, "acks_on_failure", None)
    return bool(task.acks_on_failure_or_timeout if own is None else own)


def failure_expires(backend: Any) -> int | None:
    """``result_failure_expires`` (Celery 5.7)."""
    expires: int | None = getattr(backend, "failure_expires", None)
    return expires


def chord_expires(backend: Any) -> int | None:
    """``result_chord_expires`` (Celery 5.7)."""
    expires: int | None = getattr(backend, "chord_expires", backend.expires)
    return expires


def publish_callback(app: Any, publish: Callable[..., Any], *args: Any) -> Any:
    """Publish what follows a task, with pauses between its retries (Celery 5.7)."""
    retrying: Any = getattr(app.amqp, "_retry_publish", None)
    return publish(*args) if retrying is None else retrying(publish, *args)
