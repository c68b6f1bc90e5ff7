"""One message as SQS takes it: a kombu envelope in, the fields of SendMessage out; and its headers.

The envelope is byte for byte the one that kombu's own SQS transport writes, so a stock ``celery
worker`` reads it:
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
An ETA becomes SQS's delay, which hides a message for up to fifteen minutes.

twolane puts headers on every message that Celery publishes:

**The request that a task comes from**: ``twolane_request_id``, the id of the invocation that
started it all, ``twolane_trace_id``, X-Ray's trace header, and ``twolane_published_at``. A task
that publishes others hands on the two ids that it was given, so a whole chain, retries included, is
found by the one request. Log lines of the worker carry the first as ``originRequestId``.

**The descent of a task**, of any that another task publishes, be it a retry, the next of a chain, a
chord's body or itself once more: ``twolane_depth``, the number of tasks between it and the first,
and ``twolane_depth_since``, when the present window of generations began (epoch seconds). A message
that is published outside of a task has none: it is a first one.

**The tenant**, on a fair queue: what a task publishes has the message group of the task, be it a
retry, the next of a chain or any other, unless ``apply_async`` names one; an empty one is none. On
a FIFO queue, where the group is an order, only a retry keeps it.

**Times.** Celery stores when a task was done, and nothing before. The time of the publish is a
header of the message, the time of the start is on the running task's request; each state is stored
with both, for ``GET /tasks/{id}`` to show. Other readers of results ignore them.
"""

from __future__ import annotations

import base64
import logging
import math
import time
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from celery import current_task, signals
from kombu.utils.json import dumps

from twolane.environment.logs import correlation, emit, wanted
from twolane.patches.clients import STARTED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from twolane.publish.claimcheck import ClaimCheck
    from twolane.publish.transport import Target

    Later = Callable[[Target, str, float, bool, str | None], bool]
    from collections.abc import Callable

    from twolane.publish.transport import Target


#: What one message, and all of a batch together, may hold: body and attributes, in bytes.
#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html
MAX_BYTES = 1_048_576


class Entry(NamedTuple):
    """A message that is ready to go, and what is told of it."""

    task_id: str
    name: str
    size: int
    fields: Mapping[str, Any]


def build(
    message: dict[str, Any], *, base64_encoding: bool, trace_header: str | None, now: float
) -> Entry:
    """The fields of SendMessage but ``QueueUrl``; ``now`` is in seconds since the epoch.

    As kombu does it, ``message_attributes`` moves out of the envelope, ``MessageGroupId`` (fair
    queues) is copied, and an explicit delay is honoured and clamped; beyond kombu, the task's ETA
    becomes a delay. ``trace_header`` is X-Ray's, which SQS hands on to the consumer.
    """
    headers = message.get("headers") or {}
    properties = message["properties"]
    fields: dict[str, Any] = {}
    attributes = properties.pop("message_attributes", None)
    if attributes is not None:
        fields["MessageAttributes"] = attributes
    if GROUP in properties:
        fields[GROUP] = properties[GROUP]
    delay = _explicit_delay(properties)
    if delay is None:
        delay = delay_seconds(headers.get("eta"), now=now) or None
    if delay is not None:
        # 0, if it was asked for: it overrides the queue's own delay.
        fields["DelaySeconds"] = delay
    if trace_header:
        fields["MessageSystemAttributes"] = {
            "AWSTraceHeader": {"DataType": "String", "StringValue": trace_header}
        }
    text = dumps(message)
    if base64_encoding:
        text = base64.b64encode(text.encode()).decode()
    fields["MessageBody"] = text
    size = len(text.encode()) + _attributes_size(attributes)
    task_id = headers.get("id") or properties.get("correlation_id") or ""
    return Entry(str(task_id), str(headers.get("task") or ""), size, fields)


def checked_in(entry: Entry, check: ClaimCheck) -> Entry:
    """The entry with its body put aside; all else of it stays."""
    body, attributes = check.check_in(
        entry.fields["MessageBody"], entry.fields.get("MessageAttributes")
    )
    fields = {**entry.fields, "MessageBody": body, "MessageAttributes": attributes}
    return entry._replace(size=len(body.encode()) + _attributes_size(attributes), fields=fields)


def _explicit_delay(properties: Mapping[str, Any]) -> int | None:
    for key in ("delay_seconds", "DelaySeconds"):
        if properties.get(key) is not None:
            try:
                delay = int(properties[key])
            except (TypeError, ValueError, OverflowError):
                return None
            return min(delay, MAX_DELAY_S) if delay >= 0 else None
    return None


def _attributes_size(attributes: Mapping[str, Any] | None) -> int:
    """Names, types and values count: they share the message's limit."""
    size = 0
    for name, value in (attributes or {}).items():
        size += len(str(name).encode()) + len(str(value.get("DataType", "")).encode())
        size += len(str(value.get("StringValue", "")).encode())
        size += len(value.get("BinaryValue", b""))
    return size


#: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-delay-queues.html
MAX_DELAY_S = 900


#: While a worker runs a batch: has a body sent to a queue at a time (epoch seconds), which is later
#: than SQS can delay it; if that need not be exact, up to a minute later; in a message group, if
#: one is given. False if it cannot.
later: ContextVar[Later | None] = ContextVar("twolane_later", default=None)


def delay_seconds(eta: Any, *, now: float) -> int:
    """Whole seconds until ``eta`` (ISO 8601), at most 900, 0 for none or past; rounded up, as a
    message before its ETA costs another deferral. The worker defers the rest.
    """
    due = due_at(eta)
    return 0 if due is None else max(0, min(MAX_DELAY_S, math.ceil(due - now)))


def due_at(eta: Any) -> float | None:
    """``eta`` in epoch seconds; ``None`` if there is none that can be understood here: a naive one
    is in the application's zone, which only the worker knows.
    """
    if not isinstance(eta, str):
        return None
    try:
        due = datetime.fromisoformat(eta)
    except ValueError:
        # The worker rejects it by name; hiding the message meanwhile would help nobody.
        return None
    return due.timestamp() if due.tzinfo is not None else None


logger = logging.getLogger("twolane.publish")


def published(entry: Entry, target: Target, message_id: str | None) -> None:
    """Log that SQS has the message or, without an id of one, that a schedule will send it."""
    if not wanted(logger):
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


REQUEST_ID = "twolane_request_id"
TRACE_ID = "twolane_trace_id"


def outgoing(known: Mapping[str, str]) -> dict[str, str]:
    """The headers for what ``logs.correlation`` knows."""
    origin = known.get("originRequestId") or known.get("requestId")
    found = {REQUEST_ID: origin, TRACE_ID: known.get("traceId")}
    return {name: value for name, value in found.items() if value}


def incoming(headers: Mapping[str, Any]) -> dict[str, str]:
    """The part of these headers that goes to ``logs.correlation`` while their task runs."""
    found = {"originRequestId": headers.get(REQUEST_ID), "traceId": headers.get(TRACE_ID)}
    return {name: value for name, value in found.items() if isinstance(value, str)}


#: The property that names a message group, as kombu's SQS transport has it.
GROUP = "MessageGroupId"


def _keep_tenant(
    headers: Mapping[str, Any], properties: dict[str, Any], routing_key: str | None
) -> None:
    if GROUP in properties:
        if not properties[GROUP]:
            del properties[GROUP]
        return
    request: Any = current_task.request if current_task else None
    group = request.properties.get(GROUP) if request and request.properties else None
    is_fifo = str(routing_key).endswith(".fifo")
    if isinstance(group, str) and (not is_fifo or request.id == headers.get("id")):
        properties[GROUP] = group


def _before_publish(
    headers: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    routing_key: str | None = None,
    **_: Any,
) -> None:
    if headers is None:
        return
    if properties is not None:
        _keep_tenant(headers, properties, routing_key)
    if (mark := running.get()) is not None:
        mark(headers)
    known = correlation.get()
    if known:
        for name, value in outgoing(known).items():
            headers.setdefault(name, value)
        # A retry is published anew, but it is the same task: the first time stays.
        headers.setdefault(PUBLISHED_AT, stamp(time.time()))


def install() -> None:
    """Put the headers on every message that Celery publishes, to whichever broker."""
    signals.before_task_publish.connect(
        _before_publish, weak=False, dispatch_uid="twolane.correlation"
    )


DEPTH = "twolane_depth"
SINCE = "twolane_depth_since"

#: While a task runs: marks the headers of a task that it publishes. Application code publishes
#: wherever it likes, so that no argument can carry this there.
running: ContextVar[Callable[[dict[str, Any]], None] | None] = ContextVar(
    "twolane_running", default=None
)

_UID = "twolane.times"

PUBLISHED_AT = "twolane_published_at"
_STARTED_AT = "twolane_started_at"


def stamp(now: float) -> str:
    """``now``, in seconds since the epoch, as ISO 8601 in UTC to the millisecond."""
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")


def times_of(meta: Mapping[str, Any]) -> dict[str, str]:
    """The times in a stored result: ``published_at``, ``started_at``."""
    found = {"published_at": meta.get(PUBLISHED_AT), "started_at": meta.get(_STARTED_AT)}
    return {name: value for name, value in found.items() if isinstance(value, str)}


def stored_times(request: Any) -> dict[str, str]:
    """The times that are stored with a task's state: of its publish, and of its last start."""
    published, started = getattr(request, PUBLISHED_AT, None), getattr(request, STARTED, None)
    found: dict[str, str] = {}
    if isinstance(published, str):
        found[PUBLISHED_AT] = published
    if isinstance(started, float):
        found[_STARTED_AT] = stamp(started)
    return found


def _before_run(task: Any = None, **_: Any) -> None:
    setattr(task.request, STARTED, time.time())


def note_starts() -> None:
    """Note when each task of this process starts."""
    signals.task_prerun.connect(_before_run, weak=False, dispatch_uid=_UID)


def leave_starts() -> None:
    """The worker's own requests know their start, without a signal for each."""
    signals.task_prerun.disconnect(dispatch_uid=_UID)
