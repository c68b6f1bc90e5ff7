"""A function's log lines as journal events.

The runtime writes its own events as JSON log lines, with the kind in the field ``event``; every
other line becomes a ``log`` event.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.journal import KINDS

if TYPE_CHECKING:
    from twolane_local.journal import Journal


#: Fields of the runtime's log lines, by the parameters of ``Journal.record``.
_PARAMETERS = {"requestId": "request_id", "taskId": "task_id", "messageId": "message_id",
               "queue": "queue"}  # fmt: skip
_RESERVED = frozenset({"kind", "function", "request_id", "message_id", "task_id", "queue"})


def record(journal: Journal, function: str, request_id: str | None, line: bytes) -> None:
    """Record one line: as the event that it names, or as a ``log`` event."""
    text = line.decode("utf-8", "replace").rstrip()
    fields = _json_object(text)
    if fields is None:
        journal.record("log", function=function, request_id=request_id, line=text)
        return
    fields.pop("_aws", None)  # CloudWatch's embedded metric format: not for people
    record_fields(journal, function, request_id, fields, text)


def record_fields(
    journal: Journal,
    function: str | None,
    request_id: str | None,
    fields: dict[str, Any],
    text: str = "",
) -> None:
    """Record one line that is a JSON object, like ``record``."""
    kind = fields.pop("event", None)
    known = kind if isinstance(kind, str) and kind in KINDS else "log"
    named: dict[str, Any] = {"request_id": request_id}
    named |= {
        parameter: str(fields.pop(field))
        for field, parameter in _PARAMETERS.items()
        if fields.get(field)
    }
    if known == "log":
        fields.setdefault("line", str(fields.get("message", text)))
    # A line may have fields named `kind` or `function`, which are parameters of `record`.
    data = {name: value for name, value in fields.items() if name not in _RESERVED}
    journal.record(known, function=function, **named, **data)


def _json_object(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None
