"""The messages of a stack's queue: looked at, sent again, deleted.

SQS has no way to look at a message without receiving it. A receive hides the message for a while
and counts; the count is what sends a message to its dead-letter queue. So a queue is only looked at
here where the count does no harm: where it has no redrive policy itself, as dead-letter queues.
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-visibility-timeout.html
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.journal.messages import decode, with_arguments
from twolane_local.model import lineage
from twolane_local.remote.account import asked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.remote.account import Account
    from twolane_local.remote.source import Choice, Edit, Json

#: For so long, in seconds, what was received stays hidden if we are killed before we let it go.
HOLD_S = 120
#: A receive asks all of SQS's servers only if it waits, in seconds; an empty one ends the looking:
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-short-and-long-polling.html
POLL_S = 1
_ALL = 1_000_000


class Letters:
    """``urls`` by the queue's name."""

    def __init__(self, account: Account, urls: Mapping[str, str], *, poll_s: int = POLL_S) -> None:
        self._sqs = account.client("sqs")
        self._urls, self._poll_s = urls, poll_s

    def look(self, queue: str, *, limit: int) -> list[Mapping[str, Any]]:
        """Up to ``limit`` messages as SQS gives them, visible to others again when this returns."""
        with self._held(queue) as held:
            return list(held.receive(limit))

    @contextmanager
    def _held(self, queue: str) -> Iterator[_Held]:
        held = _Held(self._sqs, self._urls[queue], self._poll_s)
        try:
            with asked(f"queue {queue}"):
                yield held
        finally:
            held.let_go()

    def redrive(self, queue: str, choice: Choice, *, to: str | None, edit: Edit) -> Json:
        """Send again, then delete: a message may come to be twice, never to be lost.

        What was done is told even where it could not go on.
        """
        done: Json = {"redriven": [], "failed": []}
        try:
            with self._held(queue) as held:
                for message in held.receive(_ALL):
                    # One of ours that failed at once is here again: it has had its turn.
                    mine = any(
                        each["newMessageId"] == message["MessageId"] for each in done["redriven"]
                    )
                    if not mine and choice.takes(shape(queue, message)):
                        self._redrive_one(held, message, done, queue=queue, to=to, edit=edit)
        except LocalError as error:
            if not done["redriven"]:
                raise
            done["failed"].append({"messageId": "the rest", "why": str(error)})
        return done

    def _redrive_one(
        self,
        held: _Held,
        message: Mapping[str, Any],
        done: Json,
        *,
        queue: str,
        to: str | None,
        edit: Edit,
    ) -> None:
        identifier = message["MessageId"]
        try:
            target = self._target(queue, message, to)
            sent = self._send_again(target, message, edit)
        except LocalError as error:
            done["failed"].append({"messageId": identifier, "why": str(error)})
            return
        try:
            held.delete(message)
        except LocalError as error:
            why = f"it was sent again to {target} as {sent}, but is still here too: {error}"
            done["failed"].append({"messageId": identifier, "why": why})
            return
        done["redriven"].append({"messageId": identifier, "newMessageId": sent, "queue": target})

    def purge(self, queue: str, choice: Choice) -> int:
        """Delete those that are meant, one by one: PurgeQueue would take those in flight too."""
        count = 0
        with self._held(queue) as held:
            for message in held.receive(_ALL):
                if choice.takes(shape(queue, message)):
                    held.delete(message)
                    count += 1
        return count

    def send(self, queue: str, body: str, *, delay_s: int | None = None) -> str:
        """The message's id."""
        fields: dict[str, Any] = {} if delay_s is None else {"DelaySeconds": delay_s}
        with asked(f"sending to {queue}"):
            answer = self._sqs.send_message(QueueUrl=self._urls[queue], MessageBody=body, **fields)
        return str(answer["MessageId"])

    def _target(self, queue: str, message: Mapping[str, Any], to: str | None) -> str:
        """Where it came from, as SQS has written on it, unless ``to`` says otherwise."""
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
            f"cannot tell which queue it came from ({', '.join(sources) or name or 'none'}): name "
            "one with --to"
        )

    def _sources(self, queue: str) -> list[str]:
        with asked(f"sources of {queue}"):
            pages = self._sqs.get_paginator("list_dead_letter_source_queues")
            urls = [
                url
                for page in pages.paginate(QueueUrl=self._urls[queue])
                for url in page.get("queueUrls", [])
            ]
        return [url.rpartition("/")[2] for url in urls]

    def _send_again(self, target: str, message: Mapping[str, Any], edit: Edit) -> str:
        fields = again(message, edit, fifo=target.endswith(".fifo"))
        with asked(f"sending to {target}"):
            answer = self._sqs.send_message(QueueUrl=self._urls[target], **fields)
        return str(answer["MessageId"])


class _Held:
    """What is received of one queue, hidden from others until it is let go or deleted."""

    def __init__(self, sqs: Any, url: str, poll_s: int) -> None:
        self._sqs, self._url, self._poll_s = sqs, url, poll_s
        self._kept: dict[str, str] = {}  # receipt handles by message id

    def receive(self, limit: int) -> Iterator[Mapping[str, Any]]:
        """Each message once, up to ``limit``, until the queue has no more."""
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
            self._kept |= {each["MessageId"]: each["ReceiptHandle"] for each in messages}
            fresh = [each for each in messages if each["MessageId"] not in known]
            known |= {each["MessageId"] for each in fresh}
            if not fresh:
                return
            yield from fresh

    def delete(self, message: Mapping[str, Any]) -> None:
        identifier = message["MessageId"]
        with asked(f"deleting message {identifier}"):
            self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=self._kept[identifier])
        del self._kept[identifier]

    def let_go(self) -> None:
        handles = list(self._kept.values())
        for start in range(0, len(handles), 10):
            entries = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
                for number, handle in enumerate(handles[start : start + 10])
            ]
            with asked(f"letting go of messages of {self._url}"):
                self._sqs.change_message_visibility_batch(QueueUrl=self._url, Entries=entries)


def again(message: Mapping[str, Any], edit: Edit, *, fifo: bool = False) -> dict[str, Any]:
    """The fields of SendMessage but ``QueueUrl`` that send a received message once more.

    Body and attributes as they were, X-Ray's trace header and the message's group included; only
    ``edit`` changes the body. Two things stay behind: the deduplication id, for SQS would drop, for
    five minutes, what has the id of a message that it knows; and the lineage in the trace header,
    by which Lambda's recursive-loop detection would stop the message again.
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
    if trace := lineage.without(system.get("AWSTraceHeader") or ""):
        fields["MessageSystemAttributes"] = {
            "AWSTraceHeader": {"DataType": "String", "StringValue": trace}
        }
    if system.get("MessageGroupId"):
        fields["MessageGroupId"] = system["MessageGroupId"]
    if fifo:
        fields["MessageDeduplicationId"] = f"redrive-{message['MessageId']}"
    return fields


def shape(queue: str, message: Mapping[str, Any]) -> Json:
    """``Message`` of a received one."""
    system = message.get("Attributes") or {}
    source = str(system.get("DeadLetterQueueSourceArn", "")).rpartition(":")[2]
    task = decode(message["Body"])
    shaped: Json = {
        "id": message["MessageId"],
        "queue": queue,
        "state": "visible",
        # Ours does not count: whoever reads the figure wants to know how often it was tried.
        "receiveCount": max(0, int(system.get("ApproximateReceiveCount", 1)) - 1),
        "sentAt": int(system.get("SentTimestamp", 0)) / 1000,
        "bytes": len(message["Body"].encode()),
        "messageAttributes": _text_only(message.get("MessageAttributes") or {}),
        "attributes": dict(system),
        "body": "•••" if task.hidden else _without_secrets(message["Body"]),
        "task": task.as_dict() if task.name is not None else None,
    }
    if source:
        shaped["source"] = source
    if system.get("MessageGroupId"):
        shaped["groupId"] = system["MessageGroupId"]
    return shaped


def _text_only(attributes: Mapping[str, Mapping[str, Any]]) -> Json:
    return {
        name: {key: value for key, value in each.items() if isinstance(value, str)}
        for name, each in attributes.items()
    }


def _without_secrets(body: str) -> str:
    from twolane_local.journal import redact

    return redact.text(body)
