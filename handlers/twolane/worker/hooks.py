"""What Celery looks up by name and finds here instead of its own; nothing is imported for it."""

from __future__ import annotations

from celery import Celery
from celery.app import backends
from celery.app.events import Events


def install() -> None:
    """Put in the store-backed ``app.control``, events over Redis, duplicate-safe DynamoDB chords.

    They are for what an application opens from now on; with a broker or a result backend of another
    kind they change nothing. Idempotent.
    """
    Celery.control_cls = "twolane.worker.control:Control"
    Events.dispatcher_cls = "twolane.worker.events:Dispatcher"
    backends.BACKEND_ALIASES["dynamodb"] = "twolane.worker.chords:DynamoDBBackend"
