"""Messages on a stack's queues: read, sent again, deleted.

SQS shows a message only to a receive, which hides it for a while and raises its receive count, and
the count moves messages to the dead-letter queue. So messages are read only from queues where the
count does no harm: those without a redrive policy, like dead-letter queues.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.journal import redact
from twolane_local.journal.messages import decode, with_arguments
from twolane_local.model import lineage
from twolane_local.remote.account import aws_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.remote.account import Account
    from twolane_local.remote.source import Edit, JsonObject, MessageChoice

#: If we are killed before the release, received messages stay hidden for so many seconds.
HOLD_S = 120
#: A receive reads from all of SQS's servers only if it waits (seconds); an empty one ends the read:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
POLL_S = 1
_ALL = 1_000_000


class DeadLetters:
    """``urls`` of the queues by name."""

    def __init__(self, account: Account, urls: Mapping[str, str], *, poll_s: int = POLL_S) -> None:
        self._sqs = account.client("sqs")
        self._urls, self._poll_s = urls, poll_s

    def peek(self, queue: str, *, limit: int) -> list[Mapping[str, Any]]:
        """Return up to ``limit`` messages as SQS returns them, and make them visible again."""
        with self._receiving(queue) as received:
            return list(received.receive(limit))

    @contextmanager
    def _receiving(self, queue: str) -> Iterator[_Received]:
        received = _Received(self._sqs, self._urls[queue], self._poll_s)
        try:
            with aws_errors(f"queue {queue}"):
                yield received
        finally:
            received.release()

    def redrive(
        self, queue: str, choice: MessageChoice, *, to: str | None, edit: Edit
    ) -> JsonObject:
        """Send messages again, then delete them: one may exist twice, but is never lost. The result
        has those that were moved, even if an error stops the rest.
        """
        done: JsonObject = {"redriven": [], "failed": []}
        try:
            with self._receiving(queue) as received:
                for message in received.receive(_ALL):
                    # A redriven message that failed at once is here again; it is not moved twice.
                    redriven = any(
                        each["newMessageId"] == message["MessageId"] for each in done["redriven"]
                    )
                    if not redriven and choice.includes(message_shape(queue, message)):
                        self._redrive_one(received, message, done, queue=queue, to=to, edit=edit)
        except LocalError as error:
            if not done["redriven"]:
                raise
            done["failed"].append({"messageId": "the rest", "why": str(error)})
        return done

    def _redrive_one(
        self,
        received: _Received,
        message: Mapping[str, Any],
        done: JsonObject,
        *,
        queue: str,
        to: str | None,
        edit: Edit,
    ) -> None:
        identifier = message["MessageId"]
        try:
            target = self._target(queue, message, to)
            fields = resend_fields(message, edit, fifo=target.endswith(".fifo"))
            sent = self._send(target, fields)
        except LocalError as error:
            done["failed"].append({"messageId": identifier, "why": str(error)})
            return
        try:
            received.delete(message)
        except LocalError as error:
            why = f"it was sent again to {target} as {sent}, but is still here too: {error}"
            done["failed"].append({"messageId": identifier, "why": why})
            return
        done["redriven"].append({"messageId": identifier, "newMessageId": sent, "queue": target})

    def purge(self, queue: str, choice: MessageChoice) -> int:
        """Delete messages one by one: PurgeQueue would delete those in flight too."""
        count = 0
        with self._receiving(queue) as received:
            for message in received.receive(_ALL):
                if choice.includes(message_shape(queue, message)):
                    received.delete(message)
                    count += 1
        return count

    def send(self, queue: str, body: str, *, delay_s: int | None = None) -> str:
        """Send a message; return its id."""
        delay: dict[str, Any] = {} if delay_s is None else {"DelaySeconds": delay_s}
        return self._send(queue, {"MessageBody": body, **delay})

    def _send(self, queue: str, fields: Mapping[str, Any]) -> str:
        with aws_errors(f"sending to {queue}"):
            answer = self._sqs.send_message(QueueUrl=self._urls[queue], **fields)
        return str(answer["MessageId"])

    def _target(self, queue: str, message: Mapping[str, Any], to: str | None) -> str:
        """Return ``to``, or the queue that the message came from, as SQS recorded it."""
        if to is not None:
            return to
        arn = message.get("Attributes", {}).get("DeadLetterQueueSourceArn", "")
        name = str(arn).rpartition(":")[2]
        if name in self._urls:
            return name
        sources = self._sources(queue)
        if len(sources) == 1:
            return sources[0]
        raise LocalError(
            f"its source queue is not clear ({', '.join(sources) or name or 'none'}): name one "
            "with --to"
        )

    def _sources(self, queue: str) -> list[str]:
        with aws_errors(f"sources of {queue}"):
            pages = self._sqs.get_paginator("list_dead_letter_source_queues")
            urls = [
                url
                for page in pages.paginate(QueueUrl=self._urls[queue])
                for url in page.get("queueUrls", [])
            ]
        return [url.rpartition("/")[2] for url in urls]


class _Received:
    """Received messages of one queue, hidden from others until they are released or deleted."""

    def __init__(self, sqs: Any, url: str, poll_s: int) -> None:
        self._sqs, self._url, self._poll_s = sqs, url, poll_s
        self._handles: dict[str, str] = {}  # receipt handles by message id

    def receive(self, limit: int) -> Iterator[Mapping[str, Any]]:
        """Yield each message once, up to ``limit``, until the queue is empty."""
        known: set[str] = set()
        while len(known) < limit:
            answer = self._sqs.receive_message(
                QueueUrl=self._url,
                MaxNumberOfMessages=min(10, limit - len(known)),
                VisibilityTimeout=HOLD_S,
                WaitTimeSeconds=self._poll_s,
                MessageAttributeNames=["All"],
                MessageSystemAttributeNames=["All"],
            )
            messages = answer.get("Messages", [])
            self._handles |= {each["MessageId"]: each["ReceiptHandle"] for each in messages}
            fresh = [each for each in messages if each["MessageId"] not in known]
            known |= {each["MessageId"] for each in fresh}
            if not fresh:
                return
            yield from fresh

    def delete(self, message: Mapping[str, Any]) -> None:
        identifier = message["MessageId"]
        with aws_errors(f"deleting message {identifier}"):
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=self._handles[identifier])
        del self._handles[identifier]

    def release(self) -> None:
        handles = list(self._handles.values())
        for start in range(0, len(handles), 10):
            entries = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for number, handle in enumerate(handles[start : start + 10])
            ]
            with aws_errors(f"releasing messages of {self._url}"):
                self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)


def resend_fields(message: Mapping[str, Any], edit: Edit, *, fifo: bool = False) -> dict[str, Any]:
    """Return the fields of SendMessage, without ``QueueUrl``, that send a received message again.

    Body, attributes, X-Ray's trace header and the message group stay; only ``edit`` changes the
    body. Two things are removed: the deduplication id, because SQS drops a message with a known id
    for five minutes; and the lineage in the trace header, because Lambda's recursive-loop detection
    would stop the message again.
    https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
    """
    body = message["Body"]
    if edit:
        body = with_arguments(body, args=edit.args, kwargs=edit.kwargs)
    fields: dict[str, Any] = {"MessageBody": body}
    attributes = {
        name: {key: value for key, value in each.items() if not key.endswith("ListValues")}
        for name, each in (message.get("MessageAttributes") or {}).items()
    }
    if attributes:
        fields["MessageAttributes"] = attributes
    system = message.get("Attributes") or {}
    if trace := lineage.without_lineage(system.get("AWSTraceHeader") or ""):
        fields["MessageSystemAttributes"] = {
            "AWSTraceHeader": {"DataType": "String", "StringValue": trace}
        }
    if system.get("MessageGroupId"):
        fields["MessageGroupId"] = system["MessageGroupId"]
    if fifo:
        fields["MessageDeduplicationId"] = f"redrive-{message['MessageId']}"
    return fields


def message_shape(queue: str, message: Mapping[str, Any]) -> JsonObject:
    system = message.get("Attributes") or {}
    source = str(system.get("DeadLetterQueueSourceArn", "")).rpartition(":")[2]
    task = decode(message["Body"])
    shaped: JsonObject = {
        "id": message["MessageId"],
        "queue": queue,
        "state": "visible",
        # Without our own receive: people read this as the number of attempts.
        "receiveCount": max(0, int(system.get("ApproximateReceiveCount", 1)) - 1),
        "sentAt": int(system.get("SentTimestamp", 0)) / 1000,
        "bytes": len(message["Body"].encode()),
        "messageAttributes": {
            name: {key: value for key, value in each.items() if isinstance(value, str)}
            for name, each in (message.get("MessageAttributes") or {}).items()
        },
        "attributes": dict(system),
        "body": redact.HIDDEN if task.hidden else redact.text(message["Body"]),
        "task": task.as_dict() if task.name is not None else None,
    }
    if source:
        shaped["source"] = source
    if system.get("MessageGroupId"):
        shaped["groupId"] = system["MessageGroupId"]
    return shaped
