"""The light publisher: stock ``task.delay()``, ``apply_async()`` and canvas, without boto3.

The way of one message: ``transport`` is kombu's transport of the name ``sqs``, and ``installation``
puts it in the place of kombu's own. It finds the queue's address, and whether the light path covers
it. ``message`` adds the request that the task comes from, and makes the fields of SendMessage from
kombu's envelope; ``claimcheck`` puts a body that is too large in S3. ``client`` signs it and sends
it over a kept-alive connection. ``batch`` sends a group ten messages at a time. ``errors`` are what
a caller sees when SQS did not take the message. ``application`` says which settings of a Celery
application do not go with SQS.

Celery is imported on first use: the HTTP side needs a name or two from here in applications that
enqueue nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twolane.publish.installation import install

__all__ = ["install"]


def __getattr__(name: str) -> object:
    if name != "install":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from twolane.publish.installation import install

    return install
