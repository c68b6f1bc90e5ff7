"""How tasks hang together, read from their messages: who published whom, which chord joins whom."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from twolane.errors import MalformedMessageError

if TYPE_CHECKING:
    from twolane_local.console.story import Story


@dataclass(frozen=True, slots=True)
class Chord:
    """Tasks whose results a callback gets once all of them are done."""

    callback: str
    name: str
    header: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A task's place in its canvas."""

    parent: str | None = None
    callback: str | None = None
    callback_name: str = ""


@lru_cache(maxsize=4_096)
def place_of(body: str) -> Place:
    """Read from an SQS body; an empty place for what is no Celery message, or was cut.

    The callback's signature is in the embed of the message's body:
    https://docs.celeryq.dev/en/stable/internals/protocol.html#definition
    """
    from twolane.worker.message import open_envelope

    try:
        envelope = open_envelope(body)
        content = json.loads(envelope.body)
    except (MalformedMessageError, ValueError, RecursionError):
        return Place()
    parent = envelope.headers.get("parent_id")
    embed = content[2] if isinstance(content, list) and len(content) == 3 else None
    chord = embed.get("chord") if isinstance(embed, dict) else None
    callback, name = _signature(chord)
    return Place(parent if isinstance(parent, str) else None, callback, name)


def _signature(chord: Any) -> tuple[str | None, str]:
    if not isinstance(chord, dict):
        return None, ""
    options = chord.get("options")
    identity = options.get("task_id") if isinstance(options, dict) else None
    name = chord.get("task")
    return (identity if isinstance(identity, str) else None), name if isinstance(name, str) else ""


def place_in(story: Story, task_id: str) -> Place:
    """Of a task of the story, from the first of its messages."""
    for message_id in story.task_messages(task_id):
        for event in story.messages[message_id]:
            body = event.data.get("body")
            if event.kind == "message.sent" and isinstance(body, str):
                return place_of(body)
    return Place()


def parent_of(story: Story, task_id: str) -> str | None:
    """The span of the task that published this one, where that is in the story."""
    parent = place_in(story, task_id).parent
    return f"task:{parent}" if parent in story.tasks and parent != task_id else None


def chords_of(story: Story) -> dict[str, Chord]:
    """By the callback's task id, those whose callback was published."""
    header: dict[str, list[str]] = {}
    names: dict[str, str] = {}
    for task_id in story.tasks:
        place = place_in(story, task_id)
        if place.callback is not None:
            header.setdefault(place.callback, []).append(task_id)
            names[place.callback] = place.callback_name
    return {
        callback: Chord(callback, names[callback], tuple(tasks))
        for callback, tasks in header.items()
    }
