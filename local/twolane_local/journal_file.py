"""A journal in a file: one event a line as JSON, as ``GET /api/journal`` gives them.

Also read are a JSON array of events, and an object which holds one as ``events``. A line that is
no event is an error: half a journal would give advice from half the facts.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from twolane_local.errors import LocalError
from twolane_local.journal import Event

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path


def read(path: Path) -> list[Event]:
    """The events of the file, ``-`` is stdin; raises ``LocalError`` which names the line."""
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text("utf-8")
    except OSError as error:
        raise LocalError(f"{path} cannot be read ({error.strerror}); name a journal") from error
    return [_event(path, number, raw) for number, raw in _documents(path, text) if raw is not None]


def from_dict(raw: Mapping[str, Any]) -> Event:
    """An event from ``Event.as_dict``, or from the control API, which names in camelCase.

    Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is none.
    """
    return Event(
        seq=int(raw.get("seq", 0)),
        at=float(raw["at"]),
        kind=str(raw["kind"]),
        function=raw.get("function"),
        queue=raw.get("queue"),
        request_id=raw.get("request_id", raw.get("requestId")),
        message_id=raw.get("message_id", raw.get("messageId")),
        task_id=raw.get("task_id", raw.get("taskId")),
        data=dict(raw.get("data") or {}),
    )


def _documents(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    try:
        whole = json.loads(text)
    except ValueError:
        for number, line in enumerate(text.splitlines(), 1):
            yield number, _line(path, number, line) if line.strip() else None
        return
    if isinstance(whole, dict) and isinstance(whole.get("events"), list):
        whole = whole["events"]
    yield from ((1, raw) for raw in (whole if isinstance(whole, list) else [whole]))


def _line(path: Path, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError as error:
        raise LocalError(f"{path}:{number} is not JSON ({error}); export it again") from error


def _event(path: Path, number: int, raw: Any) -> Event:
    try:
        return from_dict(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LocalError(
            f'{path}:{number} is no event of a journal: it needs at least "kind" and "at"'
        ) from error
