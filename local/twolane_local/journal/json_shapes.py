"""Traces and messages in the control API's JSON, with secrets replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.journal import redact

if TYPE_CHECKING:
    from twolane_local.journal.trace import Span, Trace
    from twolane_local.model.states import MessageState

_NAMES = {
    "request_id": "requestId", "task_id": "taskId", "message_id": "messageId",
    "function": "function", "queue": "queue", "attempt": "attempt",
    "receive_count": "receiveCount",
}  # fmt: skip
#: Details of a span that are JSON as text or bytes.
_CONTENTS = frozenset({"body", "payload", "response"})


def trace_as_json(trace: Trace) -> dict[str, Any]:
    return {
        "id": trace.id, "from": trace.at, "to": trace.end, "now": trace.now,
        "running": trace.running, "leftOut": trace.left_out,
        "root": trace.spans[0].id if trace.spans else None,
        "spans": [span_as_json(span) for span in trace.spans],
        "logs": [redact.event(event) for event in trace.logs],
    }  # fmt: skip


def span_as_json(span: Span) -> dict[str, Any]:
    found = {
        "id": span.id, "parent": span.parent, "kind": span.kind, "title": span.title,
        "lane": span.lane, "start": span.start, "end": span.end, "state": span.state,
        "marks": [{"at": mark.at, "text": mark.text} for mark in span.marks],
        "detail": {name: _redacted(name, value) for name, value in span.detail.items()
                   if value not in (None, "", [], {})},
    }  # fmt: skip
    ids = {to: getattr(span, name) for name, to in _NAMES.items()}
    return found | {name: value for name, value in ids.items() if value is not None}


def _redacted(name: str, value: Any) -> Any:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if name == "headers":
        return redact.headers(value)
    if name == "query" and isinstance(value, str):
        return redact.query(value)
    if name in _CONTENTS and isinstance(value, str):
        return redact.text(value)
    return redact.values(value, name)


def message_as_json(
    state: MessageState, error: dict[str, Any] | None = None, *, cut: int | None = None
) -> dict[str, Any]:
    """Return a message on its queue, with its task if it has one; ``cut`` limits the body."""
    from twolane_local.journal.messages import decode

    message = state.message
    task = decode(message.body)
    body = redact.text(message.body)
    found = {
        "id": message.id, "queue": state.queue, "position": state.position, "state": state.state,
        "receiveCount": state.receive_count, "sentAt": message.sent_at,
        "visibleAt": state.visible_at, "bytes": message.size,
        "groupId": message.group_id, "source": queue_name(message.dead_letter_source),
        "messageAttributes": {
            name: {"DataType": value.data_type, "StringValue": value.string}
            for name, value in message.attributes.items()
            if value.string is not None
        },
        "attributes": _system_attributes(state),
        "body": body if cut is None or len(body) <= cut else body[:cut] + "…",
        "task": redact.values(task.as_dict()) if task.name is not None else None,
        "problem": task.problem,
        "error": error,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value is not None}


def queue_name(arn: str | None) -> str | None:
    return arn.rpartition(":")[2] if arn is not None else None


def _system_attributes(state: MessageState) -> dict[str, str]:
    from twolane_local.model.message import Received

    received = Received(state.message, "", state.receive_count, state.first_received_at)
    found = received.system_attributes()
    if not state.receive_count:
        found.pop("ApproximateFirstReceiveTimestamp", None)
    return found
