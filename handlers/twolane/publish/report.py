"""What is told of a publish."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from twolane.logs import emit

if TYPE_CHECKING:
    from twolane.publish.entry import Entry
    from twolane.publish.target import Target

logger = logging.getLogger("twolane.publish")


def published(entry: Entry, target: Target, message_id: str) -> None:
    """Tell that SQS has the message."""
    if not logger.isEnabledFor(logging.INFO):
        return
    emit(
        logger,
        "task.published",
        f"Task {entry.name}[{entry.task_id}] is on its queue",
        taskId=entry.task_id,
        taskName=entry.name,
        queue=target.queue_url.rpartition("/")[2],
        messageId=message_id,
        bytes=entry.size,
        delaySeconds=entry.fields.get("DelaySeconds", 0),
    )
