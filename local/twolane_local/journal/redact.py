"""Replaces secrets by ``•••``: values of fields with telltale names, and arguments that an
application hides.

A Celery publisher hides arguments by setting its own ``argsrepr`` and ``kwargsrepr``; of such a
message only those two are shown:
https://docs.celeryq.dev/en/stable/userguide/tasks.html#hiding-sensitive-information-in-arguments
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

from twolane_local.journal.messages import decode

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twolane_local.journal import Event

HIDDEN = "•••"
#: How many levels of lists and objects are searched.
_DEEPEST = 100
_SECRET = re.compile(
    r"authorization|cookie|api[-_]?key|passw(or)?d|secret|token|credential|signature",
    re.IGNORECASE,
)
#: Fields whose text is JSON again: the body of an HTTP event or of an SQS record.
_NESTED = frozenset({"body", "payload"})
_QUERIES = frozenset({"query", "rawQueryString"})


def is_secret(name: str) -> bool:
    """Return whether values of a field, header or parameter of that name are hidden."""
    return _SECRET.search(name) is not None


def headers(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return headers as pairs, with secret values replaced."""
    return [[name, HIDDEN if is_secret(name) else value] for name, value in pairs]


def query(text: str) -> str:
    """Return a query string with secret values replaced."""
    pairs = parse_qsl(text, keep_blank_values=True)
    if not any(is_secret(name) for name, _ in pairs):
        return text
    shown = [(name, HIDDEN if is_secret(name) else value) for name, value in pairs]
    return urlencode(shown, errors="replace")


def text(content: str) -> str:
    """Return a body with secrets replaced, if it is JSON, a form or a task; else unchanged."""
    stripped = content.lstrip()
    if stripped.startswith(("{", "[")):
        try:
            value = json.loads(content)
            shown = values(value)
            return content if shown == value else json.dumps(shown, ensure_ascii=False)
        except (ValueError, RecursionError):
            # JSON that was cut cannot be searched, so the name of a secret hides all of it.
            return HIDDEN if _SECRET.search(content) or "argsrepr" in content else content
    if hides_task(content):
        return HIDDEN
    if "=" in content and "\n" not in content and " " not in content:
        return query(content)
    return content


def values(value: Any, name: str = "", depth: int = 0) -> Any:
    """Return JSON values with secrets replaced, and values that are nested too deep to search."""
    if depth > _DEEPEST:
        return HIDDEN
    if isinstance(value, dict):
        if _hides_envelope(value):
            value = {**value, "body": HIDDEN}
        return {
            key: HIDDEN
            if is_secret(str(key)) and inner not in (None, "")
            else values(inner, key, depth + 1)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [values(inner, name, depth + 1) for inner in value]
    if isinstance(value, str):
        if name in _NESTED:
            return text(value)
        if name in _QUERIES:
            return query(value)
    return value


def _hides_envelope(value: Mapping[str, Any]) -> bool:
    """Return whether this is a Celery message whose own body must be hidden."""
    if not isinstance(value.get("headers"), dict) or "properties" not in value:
        return False
    try:
        return hides_task(json.dumps(value))
    except RecursionError:
        return True


def hides_task(body: str) -> bool:
    """Return whether a task's arguments are hidden, or have secrets, maybe in base64."""
    task = decode(body)
    kwargs = dict(task.kwargs or {})
    args = list(task.args or ())
    return task.hidden or values(kwargs) != kwargs or values(args) != args


def event(step: Event, *, content: bool = False) -> dict[str, Any]:
    """Return an event as the control API shows it; ``content`` adds bodies, payloads, headers."""
    names = {"request_id": "requestId", "message_id": "messageId", "task_id": "taskId"}
    shown = {names.get(name, name): value for name, value in step.as_dict().items()}
    data = shown.pop("data", {})
    shown["data"] = {name: _field(name, value) for name, value in data.items() if content
                     or name not in ("body", "payload", "headers")}  # fmt: skip
    return shown


def _field(name: str, value: Any) -> Any:
    if is_secret(name) and value not in (None, ""):
        return HIDDEN
    if name == "headers":
        return headers(value)
    if isinstance(value, str):
        if name in _NESTED:
            return text(value)
        return query(value) if name in _QUERIES else value
    return values(value, name)
