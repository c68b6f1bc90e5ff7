"""The errors of ``task.delay()`` when SQS did not take the message.

Both are kombu's ``OperationalError`` too: that is what Celery documents for a publish that failed,
so code that catches it needs no change.
https://docs.celeryq.dev/en/stable/userguide/calling.html#connection-error-handling
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from kombu.exceptions import OperationalError

from twolane.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class EnqueueError(PublishError, OperationalError):
    """SQS did not take the task; the cause is chained. It is safe to enqueue it again."""

    def __init__(self, message: str | None = None, *, code: str = "") -> None:
        super().__init__(message)
        #: SQS's error code, or the empty string where SQS did not answer.
        self.code = code


class MessageTooBigError(EnqueueError):
    """The task's message is bigger than SQS takes; sending it again would not help."""

    retryable = False


class EnqueueBatchError(EnqueueError):
    """SQS took only a part of a group; ``failures`` says which tasks it did not take, and why."""

    def __init__(self, failures: Mapping[str, str], *, sent: int) -> None:
        named = "; ".join(f"{task_id}: {reason}" for task_id, reason in failures.items())
        super().__init__(
            f"{len(failures)} of {len(failures) + sent} tasks were not put on their queue, "
            f"{sent} were. Enqueue these again, by their ids: {named}"
        )
        #: Why, by task id.
        self.failures = dict(failures)
        #: How many of the group SQS took.
        self.sent = sent


@contextmanager
def botos_errors_translated(where: str) -> Iterator[None]:
    """botocore's errors are not among the connection errors that kombu knows of the transport."""
    try:
        yield
    except Exception as exc:
        # Those of our own clients are botocore's too.
        if not any(kind.__module__.startswith("botocore.") for kind in type(exc).__mro__):
            raise
        raise EnqueueError(f"The message was not taken by {where}: {exc}") from exc
