"""The SQS actions on messages: parameters in, result out, in the shapes of the JSON protocol.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Any

from twolane_local.queues import inputs
from twolane_local.queues.attributes import MAXIMUM_MESSAGE_SIZE
from twolane_local.queues.errors import (
    BatchEntryIdsNotDistinctError,
    BatchRequestTooLongError,
    EmptyBatchRequestError,
    InvalidBatchEntryIdError,
    InvalidParameterValueError,
    MissingParameterError,
    SqsError,
    TooManyEntriesInBatchRequestError,
)
from twolane_local.queues.message import AttributeValue, md5_of_attributes, message_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.queues.core import NewMessage, QueueService
    from twolane_local.queues.inputs import Params
    from twolane_local.queues.message import Message, Received

_BATCH_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_SYSTEM_ATTRIBUTES = {
    "All", "SenderId", "SentTimestamp", "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp", "SequenceNumber", "MessageDeduplicationId",
    "MessageGroupId", "AWSTraceHeader", "DeadLetterQueueSourceArn",
}  # fmt: skip


def send_message(queues: QueueService, params: Params, trace: str | None = None) -> dict[str, Any]:
    """``trace`` is the request's own X-Ray header."""
    name = inputs.queue_name(params)
    new = inputs.new_message(params, queues.get(name).settings, trace)
    return _sent(queues.send(name, new), new, params)


def _sent(message: Message, new: NewMessage, asked: Params) -> dict[str, Any]:
    # A duplicate on a FIFO queue is answered with the digests of what the caller sent.
    result = {
        "MD5OfMessageBody": message.md5_of_body,
        "MD5OfMessageAttributes": md5_of_attributes(new.attributes),
        "MessageId": message.id,
        "SequenceNumber": message.sequence,
    }
    if new.trace_header is not None and asked.get("MessageSystemAttributes"):
        result["MD5OfMessageSystemAttributes"] = md5_of_attributes(
            {"AWSTraceHeader": AttributeValue("String", new.trace_header)}
        )
    return {key: value for key, value in result.items() if value is not None}


def send_message_batch(
    queues: QueueService, params: Params, trace: str | None = None
) -> dict[str, Any]:
    """As ``send_message``, for each entry."""
    name = inputs.queue_name(params)
    settings = queues.get(name).settings
    entries = _entries(params, "Send")
    total = sum(
        message_size(str(entry.get("MessageBody", "")), _lenient(entry)) for entry in entries
    )
    if total > MAXIMUM_MESSAGE_SIZE:
        raise BatchRequestTooLongError(
            f"Batch requests cannot be longer than {MAXIMUM_MESSAGE_SIZE} bytes. You have sent "
            f"{total} bytes."
        )

    def send(entry: Params) -> dict[str, Any]:
        new = inputs.new_message(entry, settings, trace)
        return _sent(queues.send(name, new), new, entry)

    return _each(entries, send)


def _lenient(entry: Params) -> dict[str, AttributeValue]:
    """An entry's attributes for measuring; a wrong one fails its own entry later on."""
    try:
        return inputs.message_attributes(entry.get("MessageAttributes") or {})
    except SqsError:
        return {}


def _entries(params: Params, verb: str) -> list[Params]:
    """A batch's entries: 1 to 10, with distinct, well-formed ids."""
    entries = params.get("Entries")
    if not entries:
        raise EmptyBatchRequestError(
            f"There should be at least one {verb}MessageBatchRequestEntry in the request."
        )
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise InvalidParameterValueError("Entries must be a list of structures.")
    if len(entries) > 10:
        raise TooManyEntriesInBatchRequestError(
            f"Maximum number of entries per request are 10. You have sent {len(entries)}."
        )
    seen: set[str] = set()
    for entry in entries:
        entry_id = inputs.required(entry, "Id")
        if not _BATCH_ID.fullmatch(entry_id):
            raise InvalidBatchEntryIdError
        if entry_id in seen:
            raise BatchEntryIdsNotDistinctError(f"Id {entry_id} repeated.")
        seen.add(entry_id)
    return entries


def _each(entries: list[Params], act: Callable[[Params], dict[str, Any]]) -> dict[str, Any]:
    """Act on each entry in order; one that fails does not stop the others."""
    successful, failed = [], []
    for entry in entries:
        try:
            successful.append({"Id": entry["Id"], **act(entry)})
        except SqsError as error:
            failed.append(
                {
                    "Id": entry["Id"],
                    "SenderFault": True,
                    "Code": error.query_code,
                    "Message": error.message,
                }
            )
    # Unlike most lists, both are required members of the result.
    return {"Successful": successful, "Failed": failed}


async def receive_message(queues: QueueService, params: Params) -> dict[str, Any]:
    """Wait for messages as long as asked for, on the queues' clock, then hand them out."""
    name = inputs.queue_name(params)
    queue = queues.get(name)
    limit = inputs.integer(params, "MaxNumberOfMessages", 1, 10) or 1
    visibility = inputs.integer(params, "VisibilityTimeout", 0, 43_200)
    wait = inputs.integer(params, "WaitTimeSeconds", 0, 20)
    attempt_id = inputs.token(params, "ReceiveRequestAttemptId")
    system = inputs.names(params, "AttributeNames", "MessageSystemAttributeNames")
    if unknown := system - _SYSTEM_ATTRIBUTES:
        raise InvalidParameterValueError(f"Unknown Attribute {min(unknown)}.")
    user = inputs.names(params, "MessageAttributeNames")
    deadline = queues.clock.time() + (queue.settings.wait_s if wait is None else wait)
    while True:
        received = queues.receive(name, limit, visibility_s=visibility, attempt_id=attempt_id)
        left = deadline - queues.clock.time()
        if received or left <= 0 or not await queues.wait(name, left):
            break
        # Others may have been faster, or a FIFO queue has all in flight that it may have.
        await queues.clock.sleep(0)
    if not received:
        return {}
    return {"Messages": [_shown(one, system, user) for one in received]}


def _shown(received: Received, system: set[str], user: set[str]) -> dict[str, Any]:
    message = received.message
    shown: dict[str, Any] = {
        "MessageId": message.id,
        "ReceiptHandle": received.receipt_handle,
        "MD5OfBody": message.md5_of_body,
        "Body": message.body,
    }
    if system:
        values = received.system_attributes()
        if "All" not in system:
            values = {name: value for name, value in values.items() if name in system}
        if values:
            shown["Attributes"] = values
    if wanted := inputs.wanted_attributes(message.attributes, user):
        shown["MD5OfMessageAttributes"] = md5_of_attributes(wanted)
        shown["MessageAttributes"] = {name: _value(value) for name, value in wanted.items()}
    return shown


def _value(value: AttributeValue) -> dict[str, str]:
    if value.string is not None:
        return {"StringValue": value.string, "DataType": value.data_type}
    encoded = base64.b64encode(value.binary or b"").decode()
    return {"BinaryValue": encoded, "DataType": value.data_type}


def delete_message(queues: QueueService, params: Params) -> dict[str, Any]:
    queues.delete(inputs.queue_name(params), inputs.required(params, "ReceiptHandle"))
    return {}


def delete_message_batch(queues: QueueService, params: Params) -> dict[str, Any]:
    name = inputs.queue_name(params)
    queues.get(name)

    def delete(entry: Params) -> dict[str, Any]:
        queues.delete(name, inputs.required(entry, "ReceiptHandle"))
        return {}

    return _each(_entries(params, "Delete"), delete)


def change_message_visibility(queues: QueueService, params: Params) -> dict[str, Any]:
    _change(queues, inputs.queue_name(params), params)
    return {}


def _change(queues: QueueService, name: str, params: Params) -> None:
    handle = inputs.required(params, "ReceiptHandle")
    seconds = inputs.integer(params, "VisibilityTimeout", 0, 43_200)
    if seconds is None:
        raise MissingParameterError("The request must contain the parameter VisibilityTimeout.")
    queues.change_visibility(name, handle, seconds)


def change_message_visibility_batch(queues: QueueService, params: Params) -> dict[str, Any]:
    name = inputs.queue_name(params)
    queues.get(name)

    def change(entry: Params) -> dict[str, Any]:
        _change(queues, name, entry)
        return {}

    return _each(_entries(params, "ChangeVisibility"), change)
