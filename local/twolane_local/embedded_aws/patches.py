"""What moto would deliver to its own queues and functions goes to the emulator's.

moto's services call each other as Python objects, not over HTTP: SNS, S3 and EventBridge reach
queues and functions by the methods that are replaced here. Runs in moto's process.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.embedded_aws import buckets, rules, topics
from twolane_local.template.values import ACCOUNT

if TYPE_CHECKING:
    from twolane_local.embedded_aws.emulator import Emulator

#: ``SQSBackend.send_message``'s parameters after the queue and the body.
_SEND_PARAMETERS = ("message_attributes", "delay_seconds", "deduplication_id", "group_id")


def apply(emulator: Emulator) -> None:
    """Replace moto's methods; once, before it serves."""
    _queues(emulator)
    topics.play(emulator)
    buckets.play(emulator)
    rules.play(emulator)


def _queues(emulator: Emulator) -> None:
    from moto.sqs.models import Message, Queue, SQSBackend

    def send_message(
        self: Any, queue_name: str, message_body: str, *rest: Any, **named: Any
    ) -> Any:
        self.get_queue(queue_name)  # raises where moto knows none of that name
        emulator.send(
            queue_name, message_body, dict(zip(_SEND_PARAMETERS, rest, strict=False)) | named
        )
        return Message("", message_body, system_attributes={})

    address = property(lambda queue: f"{emulator.endpoint}/{ACCOUNT}/{queue.name}")
    setattr(SQSBackend, "send_message", send_message)  # noqa: B010 (moto's own method)
    setattr(Queue, "physical_resource_id", address)  # noqa: B010 (likewise)
