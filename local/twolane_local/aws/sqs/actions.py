"""The actions of the SQS API: parameters in, result out, in the shapes of the JSON protocol.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Operations.html
Message move tasks, which redrive a dead-letter queue, are at the end:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import uuid
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs import attributes as attrs
from twolane_local.aws.sqs import inputs
from twolane_local.aws.sqs.attributes import MAXIMUM_MESSAGE_SIZE
from twolane_local.aws.sqs.errors import (
    BatchEntryIdsNotDistinctError,
    BatchRequestTooLongError,
    EmptyBatchRequestError,
    InvalidAttributeNameError,
    InvalidBatchEntryIdError,
    InvalidParameterValueError,
    MissingParameterError,
    OverLimitError,
    QueueDoesNotExistError,
    ResourceNotFoundError,
    SqsError,
    TooManyEntriesInBatchRequestError,
    UnsupportedOperationError,
)
from twolane_local.model.message import AttributeValue, md5_of_attributes, message_size
from twolane_local.model.states import DELAYED, IN_FLIGHT, VISIBLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.aws.sqs.inputs import Params
    from twolane_local.aws.sqs.queue import Queue
    from twolane_local.aws.sqs.service import NewMessage, QueueService
    from twolane_local.model.message import Message, Received


_BATCH_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_SYSTEM_ATTRIBUTES = {
    "All", "SenderId", "SentTimestamp", "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp", "SequenceNumber", "MessageDeduplicationId",
    "MessageGroupId", "AWSTraceHeader", "DeadLetterQueueSourceArn",
}  # fmt: skip


def send_message(queues: QueueService, params: Params, trace: str | None = None) -> dict[str, Any]:
    """``trace`` is the X-Ray header of the request."""
    name = inputs.queue_name(params)
    new = inputs.new_message(params, queues.get(name).settings, trace)
    return _sent(queues.send(name, new), new, params)


def _sent(message: Message, new: NewMessage, asked: Params) -> dict[str, Any]:
    # For a duplicate on a FIFO queue, the digests are those of the content that the caller sent.
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
    """An entry's attributes, to measure their size; invalid ones fail only their entry, later."""
    try:
        return inputs.message_attributes(entry.get("MessageAttributes") or {})
    except SqsError:
        return {}


def _entries(params: Params, verb: str) -> list[Params]:
    """The entries of a batch: 1 to 10, with distinct, well-formed ids."""
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
    """Call ``act`` with each entry in order; a failed entry does not stop the others."""
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
    # Both are required members of the result, unlike most lists.
    return {"Successful": successful, "Failed": failed}


async def receive_message(queues: QueueService, params: Params) -> dict[str, Any]:
    """Wait for messages as long as the request allows, on the clock of the queues."""
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
        # Another consumer was faster, or a FIFO queue is at its limit of messages in flight.
        await queues.clock.sleep(0)
    if not received:
        return {}
    return {"Messages": [_message(one, system, user) for one in received]}


def _message(received: Received, system: set[str], user: set[str]) -> dict[str, Any]:
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


_KNOWN = {
    "All", "Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds", *attrs.COMPUTED, *attrs.defaults(fifo=True),
}  # fmt: skip


def url_of(queues: QueueService, base: str, name: str) -> str:
    """A queue's URL on this endpoint; ``base`` does not end with a slash."""
    return f"{base}/{queues.account}/{name}"


def create_queue(queues: QueueService, params: Params, base: str) -> dict[str, Any]:
    name = inputs.required(params, "QueueName")
    attributes = inputs.strings(params, "Attributes")
    check_redrive(queues, name, attributes, fifo=name.endswith(".fifo"))
    queues.create(name, attributes, inputs.strings(params, "tags"))
    return {"QueueUrl": url_of(queues, base, name)}


def check_redrive(
    queues: QueueService, name: str, attributes: dict[str, str], *, fifo: bool
) -> None:
    """Refuse a redrive policy whose target does not exist, is of another kind, or forbids it.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-dead-letter-queues.html
    """
    policy = attributes.get("RedrivePolicy")
    if not policy:
        return
    target = attrs.check({"RedrivePolicy": policy}, fifo=fifo)["RedrivePolicy"]
    arn = json.loads(target)["deadLetterTargetArn"]
    reason = None
    try:
        dead = queues.get_by_arn(arn)
    except QueueDoesNotExistError:
        reason = "Dead letter target does not exist."
    else:
        if dead.fifo != fifo:
            kind = "FIFO" if fifo else "standard"
            reason = f"The dead-letter queue of a {kind} queue must also be a {kind} queue."
        elif not attrs.permits(dead.attributes.get("RedriveAllowPolicy"), queues.arn(name)):
            reason = "Queue is not allowed as a source by the target's RedriveAllowPolicy."
    if reason:
        raise InvalidParameterValueError(
            f"Value {policy} for parameter RedrivePolicy is invalid. Reason: {reason}"
        )


def get_queue_url(queues: QueueService, params: Params, base: str) -> dict[str, Any]:
    name = inputs.required(params, "QueueName")
    queues.get(name)
    return {"QueueUrl": url_of(queues, base, name)}


def list_queues(queues: QueueService, params: Params, base: str) -> dict[str, Any]:
    prefix = str(params.get("QueueNamePrefix") or "")
    names = [name for name in queues.names() if name.startswith(prefix)]
    return _page(queues, params, base, names, "QueueUrls")


def list_dead_letter_source_queues(
    queues: QueueService, params: Params, base: str
) -> dict[str, Any]:
    target = queues.get(inputs.queue_name(params))
    names = [
        name for name in queues.names() if queues.get(name).settings.dead_letter_arn == target.arn
    ]
    # The API spells this member in lower case. It is required, so it is never left out.
    return {"queueUrls": [], **_page(queues, params, base, names, "queueUrls")}


def _page(
    queues: QueueService, params: Params, base: str, names: list[str], key: str
) -> dict[str, Any]:
    """A page of URLs; the token for the next page is the last name of this one."""
    size = inputs.integer(params, "MaxResults", 1, 1_000)
    after = str(params.get("NextToken") or "")
    names = [name for name in names if name > after]
    shown = names[: size or 1_000]
    page: dict[str, Any] = {}
    if shown:
        page[key] = [url_of(queues, base, name) for name in shown]
    if size is not None and len(names) > size:
        page["NextToken"] = shown[-1]
    return page


def get_queue_attributes(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    queue = queues.refreshed(inputs.queue_name(params))
    wanted = inputs.names(params, "AttributeNames")
    if unknown := wanted - _KNOWN:
        raise InvalidAttributeNameError(f"Unknown Attribute {min(unknown)}.")
    found = {
        "QueueArn": queue.arn,
        "ApproximateNumberOfMessages": str(queue.count(VISIBLE)),
        "ApproximateNumberOfMessagesNotVisible": str(queue.count(IN_FLIGHT)),
        "ApproximateNumberOfMessagesDelayed": str(queue.count(DELAYED)),
        "CreatedTimestamp": str(int(queue.created_at)),
        "LastModifiedTimestamp": str(int(queue.modified_at)),
        **queue.attributes,
    }
    if "All" not in wanted:
        found = {name: value for name, value in found.items() if name in wanted}
    return {"Attributes": found} if found else {}


def set_queue_attributes(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    name = inputs.queue_name(params)
    queue = queues.get(name)
    attributes = inputs.strings(params, "Attributes")
    check_redrive(queues, name, attributes, fifo=queue.fifo)
    queues.configure(name, attributes)
    return {}


def delete_queue(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    queues.delete_queue(inputs.queue_name(params))
    return {}


def purge_queue(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    queues.purge(inputs.queue_name(params))
    return {}


def list_queue_tags(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    tags = queues.get(inputs.queue_name(params)).tags
    return {"Tags": dict(tags)} if tags else {}


def tag_queue(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    """At most 50 tags, keys to 128 and values to 256 characters.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-tags.html
    """
    name = inputs.queue_name(params)
    tags = inputs.strings(params, "Tags")
    if not tags:
        raise InvalidParameterValueError("The request must contain the parameter Tags.")
    if len({*queues.get(name).tags, *tags}) > 50:
        raise InvalidParameterValueError(f"Too many tags added for queue {name}.")
    if any(not 1 <= len(key) <= 128 or len(value) > 256 for key, value in tags.items()):
        raise InvalidParameterValueError(
            "Tag keys must be between 1 and 128 characters in length, values at most 256."
        )
    queues.tag(name, tags)
    return {}


def untag_queue(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    queues.tag(inputs.queue_name(params), dict.fromkeys(inputs.names(params, "TagKeys")))
    return {}


def add_permission(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    """Add a statement to the queue's policy; the emulator does not enforce policies."""
    name = inputs.queue_name(params)
    label = inputs.required(params, "Label")
    actions = sorted(inputs.names(params, "Actions"))
    accounts = sorted(inputs.names(params, "AWSAccountIds"))
    if len(actions) > 7:
        raise OverLimitError(f"{len(actions)} Actions were found, maximum allowed is 7.")
    if not actions or not accounts:
        raise InvalidParameterValueError("Actions and AWSAccountIds must not be empty.")
    queue = queues.get(name)
    policy = _policy(queue.attributes.get("Policy"), queue.arn)
    if label in _labels(policy):
        raise InvalidParameterValueError(
            f"Value {label} for parameter Label is invalid. Reason: Already exists."
        )
    policy["Statement"].append(
        {
            "Sid": label,
            "Effect": "Allow",
            "Principal": {"AWS": [f"arn:aws:iam::{account}:root" for account in accounts]},
            "Action": [f"SQS:{action}" for action in actions],
            "Resource": queue.arn,
        }
    )
    queues.configure(name, {"Policy": json.dumps(policy)})
    return {}


def remove_permission(queues: QueueService, params: Params, _base: str) -> dict[str, Any]:
    name = inputs.queue_name(params)
    label = inputs.required(params, "Label")
    queue = queues.get(name)
    policy = _policy(queue.attributes.get("Policy"), queue.arn)
    if label not in _labels(policy):
        raise InvalidParameterValueError(
            f"Value {label} for parameter Label is invalid. Reason: can't find label on existing "
            "policy."
        )
    statements = policy["Statement"]
    kept = [each for each in statements if not isinstance(each, dict) or each.get("Sid") != label]
    policy["Statement"] = kept
    queues.configure(name, {"Policy": json.dumps(policy) if kept else ""})
    return {}


def _policy(document: str | None, arn: str) -> dict[str, Any]:
    if document:
        parsed: dict[str, Any] = json.loads(document)
        statements = parsed.get("Statement", [])
        # A policy may hold its only statement without a list around it.
        parsed["Statement"] = [statements] if isinstance(statements, dict) else list(statements)
        return parsed
    return {"Version": "2012-10-17", "Id": f"{arn}/SQSDefaultPolicy", "Statement": []}


def _labels(policy: dict[str, Any]) -> list[object]:
    return [each.get("Sid") for each in policy["Statement"] if isinstance(each, dict)]


#: Without a rate AWS chooses one. Here so many messages move before other work gets its turn.
CHUNK = 100
#: The tasks that are listed, at most.
KEPT = 100


@dataclass
class _MoveTask:
    id: str
    source: Queue
    target: Queue | None
    rate: int | None
    to_move: int
    started_at: float
    status: str = "RUNNING"
    moved: int = 0
    failure: str | None = None

    @property
    def handle(self) -> str:
        inside = {"taskId": self.id, "sourceArn": self.source.arn}
        return base64.b64encode(json.dumps(inside).encode()).decode()

    def describe(self) -> dict[str, Any]:
        """The task as ListMessageMoveTasks returns it; with its handle only while it runs."""
        found = {
            "TaskHandle": self.handle if self.status == "RUNNING" else None,
            "Status": self.status,
            "SourceArn": self.source.arn,
            "DestinationArn": self.target.arn if self.target is not None else None,
            "MaxNumberOfMessagesPerSecond": self.rate,
            "ApproximateNumberOfMessagesMoved": self.moved,
            "ApproximateNumberOfMessagesToMove": self.to_move,
            "FailureReason": self.failure,
            "StartedTimestamp": int(self.started_at * 1000),
        }
        return {key: value for key, value in found.items() if value is not None}


class MoveTasks:
    """The message move tasks of all queues, the most recent last."""

    def __init__(self, queues: QueueService) -> None:
        self._queues = queues
        self._tasks: deque[_MoveTask] = deque(maxlen=KEPT)
        self._running: set[asyncio.Task[None]] = set()
        self.actions: dict[str, Callable[[Params], dict[str, Any]]] = {
            "StartMessageMoveTask": self.start,
            "CancelMessageMoveTask": self.cancel,
            "ListMessageMoveTasks": self.list,
        }

    def start(self, params: Params) -> dict[str, Any]:
        source = self._found(params, "SourceArn")
        target = self._found(params, "DestinationArn") if params.get("DestinationArn") else None
        rate = inputs.integer(params, "MaxNumberOfMessagesPerSecond", 1, 500)
        names = self._queues.names()
        if not any(self._queues.get(n).settings.dead_letter_arn == source.arn for n in names):
            raise InvalidParameterValueError(
                "Source queue must be configured as a Dead Letter Queue."
            )
        if target is not None and (target is source or target.fifo != source.fifo):
            raise InvalidParameterValueError(
                "The destination must be another queue, of the same type as the source."
            )
        if any(task.source is source and task.status == "RUNNING" for task in self._tasks):
            raise UnsupportedOperationError(
                "There is already a task running. Only one active task is allowed for a source "
                "queue arn at a given time."
            )
        to_move = self._queues.refreshed(source.name).count(VISIBLE)
        task = _MoveTask(
            str(uuid.uuid4()), source, target, rate, to_move, self._queues.clock.time()
        )
        self._tasks.append(task)
        running = asyncio.get_running_loop().create_task(self._run(task))
        self._running.add(running)
        running.add_done_callback(self._running.discard)
        return {"TaskHandle": task.handle}

    def _found(self, params: Params, name: str) -> Queue:
        try:
            return self._queues.get_by_arn(inputs.required(params, name))
        except QueueDoesNotExistError:
            raise ResourceNotFoundError(
                f"The resource that you specified for the {name} parameter doesn't exist."
            ) from None

    async def _run(self, task: _MoveTask) -> None:
        target = task.target.name if task.target is not None else None
        try:
            while task.status == "RUNNING":
                for _ in range(task.rate or CHUNK):
                    # Messages that arrive meanwhile are not moved, so that a task ends even if its
                    # messages fail again at once.
                    if task.moved >= task.to_move or (
                        self._queues.redrive_one(task.source.name, target) is None
                    ):
                        task.status = "COMPLETED"
                        return
                    task.moved += 1
                await self._queues.clock.sleep(1.0 if task.rate is not None else 0.0)
        except SqsError as error:
            task.status, task.failure = "FAILED", error.query_code
        if task.status == "CANCELLING":
            task.status = "CANCELLED"

    def cancel(self, params: Params) -> dict[str, Any]:
        handle = inputs.required(params, "TaskHandle")
        for task in self._tasks:
            if task.handle == handle:
                if task.status != "RUNNING":
                    break
                task.status = "CANCELLING"
                return {"ApproximateNumberOfMessagesMoved": task.moved}
        raise ResourceNotFoundError("Task does not exist, or is not running.")

    def list(self, params: Params) -> dict[str, Any]:
        source = self._found(params, "SourceArn")
        most = inputs.integer(params, "MaxResults", 1, 10) or 1
        found = [task.describe() for task in reversed(self._tasks) if task.source is source]
        return {"Results": found[:most]}
