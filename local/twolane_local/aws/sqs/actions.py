"""The actions of the SQS API: parameters in, result out, in the shapes of the JSON protocol.

https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_Operations.html
Parameters are checked against the limits of the API:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-quotas.html
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs import attributes as attrs
from twolane_local.aws.sqs.attributes import MAXIMUM_MESSAGE_SIZE
from twolane_local.aws.sqs.errors import (
    BatchEntryIdsNotDistinctError,
    BatchRequestTooLongError,
    EmptyBatchRequestError,
    InvalidAddressError,
    InvalidAttributeNameError,
    InvalidBatchEntryIdError,
    InvalidMessageContentsError,
    InvalidParameterValueError,
    MissingParameterError,
    OverLimitError,
    QueueDoesNotExistError,
    SqsError,
    TooManyEntriesInBatchRequestError,
)
from twolane_local.aws.sqs.service import NewMessage
from twolane_local.model.message import AttributeValue, md5_of_attributes, message_size
from twolane_local.model.states import DELAYED, IN_FLIGHT, VISIBLE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane_local.aws.sqs.attributes import Settings
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.model.message import Message, Received


Params = dict[str, Any]


@dataclass(slots=True)
class Caller:
    """Who calls: ``region`` and ``account`` of the request's credentials, the host that it was
    sent to, and its X-Ray header.
    """

    region: str
    account: str
    host: str = "localhost"
    trace: str | None = None

    def name(self, queues: QueueService, params: Params) -> str:
        """The queue that ``QueueUrl`` names: by address, or by name in the caller's own region.

        The host of an address does not matter.
        """
        url = required(params, "QueueUrl")
        where, _, plain = url.rpartition("/")
        if queues.is_home(where) and plain in queues:
            return plain
        where, _, plain = url.rstrip("/").rpartition("/")
        if not plain:
            raise InvalidAddressError(f"The address {url} is not valid for this endpoint.")
        if not where:
            return queues.found_from(self.region, self.account, plain)
        before, _, account = where.rpartition("/")
        before, _, region = before.rpartition("/")
        if not before.endswith("/queue"):
            region = queues.region
        return queues.found_from(region, account, plain)


_NOT_TEXT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: AWS documents ASCII letters; it takes others, too.
_ATTRIBUTE_NAME = re.compile(r"(?!(?i:aws\.|amazon\.))[\w-]+(\.[\w-]+)*")
_ATTRIBUTE_TYPE = re.compile(r"(String|Number|Binary)(\..+)?", re.DOTALL)
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,3})?")
_TOKEN = re.compile(r"[!-~]{1,128}")


def required(params: Params, name: str) -> str:
    """A parameter that must be a non-empty string."""
    value = params.get(name)
    if value is None or value == "":
        raise MissingParameterError(f"The request must contain the parameter {name}.")
    if not isinstance(value, str):
        raise InvalidParameterValueError(f"{name} must be a string.")
    return value


def integer(params: Params, name: str, low: int, high: int, reason: str = "") -> int | None:
    """An optional number within its bounds; ``reason`` is the service's text for others."""
    value = params.get(name)
    if value is None:
        return None
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise InvalidParameterValueError(f"{name} must be an integer.") from None
    if not low <= number <= high:
        reason = reason or f"Must be between {low} and {high}, if provided."
        raise InvalidParameterValueError(
            f"Value {number} for parameter {name} is invalid. Reason: {reason}"
        )
    return number


def names(params: Params, *keys: str) -> set[str]:
    """The union of the lists of names under these keys."""
    found: set[str] = set()
    for key in keys:
        value = params.get(key) or []
        if not isinstance(value, list):
            raise InvalidParameterValueError(f"{key} must be a list.")
        found.update(map(str, value))
    return found


def strings(params: Params, name: str) -> dict[str, str]:
    """A map of strings."""
    value = params.get(name) or {}
    if not isinstance(value, dict):
        raise InvalidParameterValueError(f"{name} must be a map.")
    return {str(key): str(entry) for key, entry in value.items()}


def new_message(
    params: Params, settings: Settings, trace: str | None = None, are: str = "are invalid"
) -> NewMessage:
    """The message of a SendMessage, or of one entry of a SendMessageBatch.

    ``trace`` is the X-Ray header of the request; the message's own attribute takes precedence:
    https://docs.aws.amazon.com/xray/latest/devguide/xray-services-sqs.html
    """
    body = params.get("MessageBody")
    if not isinstance(body, str) or not body:
        raise MissingParameterError("The request must contain the parameter MessageBody.")
    _check_text(body, "message body")
    attributes = message_attributes(params.get("MessageAttributes") or {})
    if message_size(body, attributes) > settings.maximum_message_size:
        raise InvalidParameterValueError(
            f"One or more parameters {are}. Reason: Message must be shorter than "
            f"{settings.maximum_message_size} bytes."
        )
    delay = integer(params, "DelaySeconds", 0, 900, "DelaySeconds must be >= 0 and <= 900.")
    group_id, deduplication_id = _fifo_ids(params, settings, delay)
    return NewMessage(
        body=body,
        delay_s=None if settings.fifo else delay,
        attributes=attributes,
        trace_header=trace_header(params) or trace,
        group_id=group_id,
        deduplication_id=deduplication_id,
    )


def _check_text(text: str, where: str, error: type[SqsError] = InvalidMessageContentsError) -> None:
    if (bad := _NOT_TEXT.search(text)) is not None:
        raise error(
            f"Invalid binary character '#x{ord(bad[0]):X}' was found in the {where}, the set of "
            "allowed characters is #x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | "
            "#x10000 to #x10FFFF"
        )


def _fifo_ids(
    params: Params, settings: Settings, delay: int | None
) -> tuple[str | None, str | None]:
    """Group id and deduplication id, if the kind of queue allows them.

    A group id on a standard queue makes it a fair queue:
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-fair-queues.html
    """
    group_id = token(params, "MessageGroupId")
    deduplication_id = token(params, "MessageDeduplicationId")
    if not settings.fifo:
        if deduplication_id is not None:
            raise _wrong_kind(deduplication_id, "MessageDeduplicationId")
        return group_id, None
    if delay:
        raise _wrong_kind(delay, "DelaySeconds")
    _check_fifo_ids(params, settings, MissingParameterError)
    return group_id, deduplication_id


def _check_fifo_ids(params: Params, settings: Settings, without_group: type[SqsError]) -> None:
    if params.get("MessageGroupId") is None:
        raise without_group("The request must contain the parameter MessageGroupId.")
    if params.get("MessageDeduplicationId") is None and not settings.content_deduplication:
        raise InvalidParameterValueError(
            "The queue should either have ContentBasedDeduplication enabled or "
            "MessageDeduplicationId provided explicitly"
        )


def token(params: Params, name: str) -> str | None:
    """An optional id: 1 to 128 letters, digits and punctuation."""
    value = params.get(name)
    if value is None:
        return None
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise InvalidParameterValueError(
            f"Value {value} for parameter {name} is invalid. Reason: {name} can only include "
            "alphanumeric and punctuation characters. 1 to 128 in length."
        )
    return value


def _wrong_kind(value: object, name: str) -> InvalidParameterValueError:
    return InvalidParameterValueError(
        f"Value {value} for parameter {name} is invalid. Reason: The request include parameter "
        "that is not valid for this queue type."
    )


def message_attributes(given: object) -> dict[str, AttributeValue]:
    """Message attributes: at most ten, with names, types and values that SQS accepts.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-message-metadata.html
    """
    if not isinstance(given, dict):
        raise InvalidParameterValueError("MessageAttributes must be a map.")
    if len(given) > 10:
        raise InvalidParameterValueError(
            f"Number of message attributes [{len(given)}] exceeds the allowed maximum [10]."
        )
    return {name: _attribute(name, value) for name, value in given.items()}


def _attribute(name: str, given: Any) -> AttributeValue:
    if not _ATTRIBUTE_NAME.fullmatch(name) or len(name) > 256:
        raise InvalidParameterValueError(
            f"The message attribute name '{name}' is invalid. Attribute name can contain A-Z, "
            "a-z, 0-9, underscore (_), hyphen (-), and period (.) characters, 1 to 256 of them, "
            "and must not start with AWS. or Amazon."
        )
    value = given if isinstance(given, dict) else {}
    kind = value.get("DataType")
    if not kind:
        raise InvalidParameterValueError(
            f"The message attribute '{name}' must contain a non-empty message attribute type."
        )
    if not isinstance(kind, str) or not _ATTRIBUTE_TYPE.fullmatch(kind) or len(kind) > 256:
        raise InvalidParameterValueError(
            f"The message attribute '{name}' has an invalid message attribute type, the set of "
            "supported type prefixes is Binary, Number, and String."
        )
    if kind.startswith("Binary"):
        return AttributeValue(kind, binary=_binary(name, kind, value.get("BinaryValue")))
    text = value.get("StringValue")
    if not isinstance(text, str) or not text:
        raise _empty_value(name, kind)
    _check_text(text, f"message attribute '{name}'", InvalidParameterValueError)
    if kind.startswith("Number") and not _NUMBER.fullmatch(text):
        raise InvalidParameterValueError(
            f"Can't cast the value of message (user) attribute '{name}' to a number."
        )
    return AttributeValue(kind, string=text)


def _binary(name: str, kind: str, value: object) -> bytes:
    try:
        raw = base64.b64decode(str(value or ""), validate=True)
    except (binascii.Error, ValueError):
        raise InvalidParameterValueError(
            f"The message attribute '{name}' holds invalid base64."
        ) from None
    if not raw:
        raise _empty_value(name, kind)
    return raw


def _empty_value(name: str, kind: str) -> InvalidParameterValueError:
    return InvalidParameterValueError(
        f"Message (user) attribute '{name}' must contain a non-empty value of type '{kind}'."
    )


def trace_header(params: Params) -> str | None:
    """The one message system attribute that a sender may set: AWSTraceHeader."""
    given = params.get("MessageSystemAttributes") or {}
    if not isinstance(given, dict) or set(given) - {"AWSTraceHeader"}:
        raise InvalidParameterValueError("MessageSystemAttributes may hold AWSTraceHeader only.")
    if "AWSTraceHeader" not in given:
        return None
    value = _attribute("AWSTraceHeader", given["AWSTraceHeader"])
    if value.data_type != "String":
        raise InvalidParameterValueError("AWSTraceHeader must be of type String.")
    return value.string


def wanted_attributes(
    attributes: Mapping[str, AttributeValue], wanted: set[str]
) -> dict[str, AttributeValue]:
    """The attributes that ``wanted`` selects: by name, ``All``, ``*``, ``.*`` or ``prefix.*``."""
    if not wanted or not attributes:
        return {}
    if wanted & {"All", "*", ".*"}:
        return dict(attributes)
    prefixes = tuple(name[:-2] for name in wanted if name.endswith(".*"))
    return {
        name: value
        for name, value in attributes.items()
        if name in wanted or (prefixes and name.startswith(prefixes))
    }


_BATCH_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_SYSTEM_ATTRIBUTES = {
    "All", "SenderId", "SentTimestamp", "ApproximateReceiveCount",
    "ApproximateFirstReceiveTimestamp", "SequenceNumber", "MessageDeduplicationId",
    "MessageGroupId", "AWSTraceHeader", "DeadLetterQueueSourceArn",
}  # fmt: skip


def send_message(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    name = caller.name(queues, params)
    new = new_message(params, queues.get(name).settings, caller.trace)
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


def send_message_batch(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    name = caller.name(queues, params)
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

    for entry in entries if settings.fifo else ():
        # Other problems of an entry fail that entry, these two the request.
        _check_fifo_ids(entry, settings, InvalidParameterValueError)

    def send(entry: Params) -> dict[str, Any]:
        new = new_message(entry, settings, caller.trace, "cannot be validated")
        return _sent(queues.send(name, new), new, entry)

    return _each(entries, send)


def _lenient(entry: Params) -> dict[str, AttributeValue]:
    """An entry's attributes, to measure their size; invalid ones fail only their entry, later."""
    try:
        return message_attributes(entry.get("MessageAttributes") or {})
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
        entry_id = entry.get("Id")
        if entry_id is None:
            raise MissingParameterError("The request must contain the parameter Id.")
        if not isinstance(entry_id, str) or not _BATCH_ID.fullmatch(entry_id):
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
                    "SenderFault": error.fault == "Sender",
                    "Code": error.query_code,
                    "Message": error.message,
                }
            )
    # The model requires both lists; AWS leaves out the one of the failed if it is empty.
    return {"Successful": successful, **({"Failed": failed} if failed else {})}


async def receive_message(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    """Wait for messages as long as the request allows, on the clock of the queues."""
    name = caller.name(queues, params)
    queue = queues.get(name)
    limit = integer(params, "MaxNumberOfMessages", 1, 10) or 1
    visibility = integer(params, "VisibilityTimeout", 0, 43_200)
    wait = integer(params, "WaitTimeSeconds", 0, 20, "Must be >= 0 and <= 20, if provided.")
    attempt_id = token(params, "ReceiveRequestAttemptId")
    system = names(params, "AttributeNames", "MessageSystemAttributeNames")
    if unknown := system - _SYSTEM_ATTRIBUTES:
        raise InvalidParameterValueError(f"Unknown Attribute {min(unknown)}.")
    user = names(params, "MessageAttributeNames")
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
    if wanted := wanted_attributes(message.attributes, user):
        shown["MD5OfMessageAttributes"] = md5_of_attributes(wanted)
        shown["MessageAttributes"] = {name: _value(value) for name, value in wanted.items()}
    return shown


def _value(value: AttributeValue) -> dict[str, str]:
    if value.string is not None:
        return {"StringValue": value.string, "DataType": value.data_type}
    encoded = base64.b64encode(value.binary or b"").decode()
    return {"BinaryValue": encoded, "DataType": value.data_type}


def delete_message(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    queues.delete(caller.name(queues, params), required(params, "ReceiptHandle"))
    return {}


def delete_message_batch(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    name = caller.name(queues, params)
    queues.get(name)

    def delete(entry: Params) -> dict[str, Any]:
        queues.delete(name, required(entry, "ReceiptHandle"))
        return {}

    return _each(_entries(params, "Delete"), delete)


def change_message_visibility(
    queues: QueueService, params: Params, caller: Caller
) -> dict[str, Any]:
    _change(queues, caller.name(queues, params), params)
    return {}


def _change(queues: QueueService, name: str, params: Params) -> None:
    handle = required(params, "ReceiptHandle")
    seconds = integer(params, "VisibilityTimeout", 0, 43_200)
    if seconds is None:
        raise MissingParameterError("The request must contain the parameter VisibilityTimeout.")
    queues.change_visibility(name, handle, seconds)


def change_message_visibility_batch(
    queues: QueueService, params: Params, caller: Caller
) -> dict[str, Any]:
    name = caller.name(queues, params)
    queues.get(name)

    def change(entry: Params) -> dict[str, Any]:
        _change(queues, name, entry)
        return {}

    return _each(_entries(params, "ChangeVisibility"), change)


_KNOWN = {
    "All", "Policy", "RedrivePolicy", "RedriveAllowPolicy", "KmsMasterKeyId",
    "KmsDataKeyReusePeriodSeconds", *attrs.COMPUTED, *attrs.defaults(fifo=True),
}  # fmt: skip


def url_of(queues: QueueService, caller: Caller, name: str) -> str:
    """A queue's URL on this endpoint; it names the region if that is not the stack's own."""
    region, account, plain = queues.place(name)
    where = "" if region == queues.region else f"/queue/{region}"
    return f"http://{caller.host}{where}/{account}/{plain}"


def create_queue(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    name = queues.found_from(caller.region, caller.account, required(params, "QueueName"))
    attributes = strings(params, "Attributes")
    check_redrive(queues, name, attributes, fifo=name.endswith(".fifo"))
    queues.create(name, attributes, strings(params, "tags"))
    return {"QueueUrl": url_of(queues, caller, name)}


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
        if queues.place(dead.name)[:2] != queues.place(name)[:2]:
            reason = "Dead letter target does not exist."
        elif dead.fifo != fifo:
            kind = "FIFO" if fifo else "standard"
            reason = f"The dead-letter queue of a {kind} queue must also be a {kind} queue."
        elif not attrs.permits(dead.attributes.get("RedriveAllowPolicy"), queues.arn(name)):
            reason = "Queue is not allowed as a source by the target's RedriveAllowPolicy."
    if reason:
        raise InvalidParameterValueError(
            f"Value {policy} for parameter RedrivePolicy is invalid. Reason: {reason}"
        )


def get_queue_url(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    account = str(params.get("QueueOwnerAWSAccountId") or caller.account)
    name = queues.found_from(caller.region, account, required(params, "QueueName"))
    queues.get(name)
    return {"QueueUrl": url_of(queues, caller, name)}


def list_queues(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    prefix = str(params.get("QueueNamePrefix") or "")
    names = [
        name
        for name in queues.names()
        if (plain := queues.place(name)[2]).startswith(prefix)
        and queues.found_from(caller.region, caller.account, plain) == name
    ]
    return _page(queues, params, caller, names, "QueueUrls")


def list_dead_letter_source_queues(
    queues: QueueService, params: Params, caller: Caller
) -> dict[str, Any]:
    target = queues.get(caller.name(queues, params))
    names = [
        name for name in queues.names() if queues.get(name).settings.dead_letter_arn == target.arn
    ]
    # The API spells this member in lower case. It is required, so it is never left out.
    return {"queueUrls": [], **_page(queues, params, caller, names, "queueUrls")}


def _page(
    queues: QueueService, params: Params, caller: Caller, names: list[str], key: str
) -> dict[str, Any]:
    """A page of URLs; the token for the next page is the last name of this one."""
    size = integer(params, "MaxResults", 1, 1_000)
    after = str(params.get("NextToken") or "")
    names = [name for name in names if name > after]
    shown = names[: size or 1_000]
    page: dict[str, Any] = {}
    if shown:
        page[key] = [url_of(queues, caller, name) for name in shown]
    if size is not None and len(names) > size:
        page["NextToken"] = shown[-1]
    return page


def get_queue_attributes(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    queue = queues.refreshed(caller.name(queues, params))
    wanted = names(params, "AttributeNames")
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


def set_queue_attributes(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    name = caller.name(queues, params)
    queue = queues.get(name)
    attributes = strings(params, "Attributes")
    check_redrive(queues, name, attributes, fifo=queue.fifo)
    queues.configure(name, attributes)
    return {}


def delete_queue(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    queues.delete_queue(caller.name(queues, params))
    return {}


def purge_queue(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    queues.purge(caller.name(queues, params))
    return {}


def list_queue_tags(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    tags = queues.get(caller.name(queues, params)).tags
    return {"Tags": dict(tags)} if tags else {}


def tag_queue(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    """At most 50 tags, keys to 128 and values to 256 characters.

    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-queue-tags.html
    """
    name = caller.name(queues, params)
    tags = strings(params, "Tags")
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


def untag_queue(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    queues.tag(caller.name(queues, params), dict.fromkeys(names(params, "TagKeys")))
    return {}


def add_permission(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    """Add a statement to the queue's policy; the emulator does not enforce policies."""
    name = caller.name(queues, params)
    label = required(params, "Label")
    actions = sorted(names(params, "Actions"))
    accounts = sorted(names(params, "AWSAccountIds"))
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
            "Principal": {"AWS": _one_or_all([f"arn:aws:iam::{each}:root" for each in accounts])},
            "Action": _one_or_all([f"SQS:{action}" for action in actions]),
            "Resource": queue.arn,
        }
    )
    queues.configure(name, {"Policy": json.dumps(policy)})
    return {}


def remove_permission(queues: QueueService, params: Params, caller: Caller) -> dict[str, Any]:
    name = caller.name(queues, params)
    label = required(params, "Label")
    queue = queues.get(name)
    policy = _policy(queue.attributes.get("Policy"), queue.arn)
    if label not in _labels(policy):
        raise InvalidParameterValueError(
            f"Value {label} for parameter Label is invalid. Reason: can't find label."
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
    return {"Version": "2008-10-17", "Id": f"{arn}/SQSDefaultPolicy", "Statement": []}


def _one_or_all(found: list[str]) -> str | list[str]:
    """IAM writes a list of one as that one."""
    return found[0] if len(found) == 1 else found


def _labels(policy: dict[str, Any]) -> list[object]:
    return [each.get("Sid") for each in policy["Statement"] if isinstance(each, dict)]
