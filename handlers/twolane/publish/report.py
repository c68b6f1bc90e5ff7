"""What is told of a publish."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from twolane.logs import emit

if TYPE_CHECKING:
    from twolane.publish.entry import Entry
    from twolane.publish.target import Target

logger = logging.getLogger("twolane.publish")


def published(entry: Entry, target: Target, message_id: str | None) -> None:
    """Tell that SQS has the message, or, where that has no id yet, a schedule that will send it."""
    if not logger.isEnabledFor(logging.INFO):
        return
    fields: dict[str, Any] = {"messageId": message_id} if message_id else {}
    emit(
        logger,
        "task.published",
        f"Task {entry.name}[{entry.task_id}] is {'on its queue' if message_id else 'scheduled'}",
        taskId=entry.task_id,
        taskName=entry.name,
        queue=target.queue_url.rpartition("/")[2],
        bytes=entry.size,
        delaySeconds=entry.fields.get("DelaySeconds", 0),
        **fields,
    )
