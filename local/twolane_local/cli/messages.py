"""``twolane messages QUEUE``"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from twolane_local.cli import exits
from twolane_local.cli.text import one_line, progress, say, say_json, seconds, table
from twolane_local.remote import open_source

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

FLAGS = ("source",)
EXAMPLES = (
    "twolane messages local-TaskQueue",
    "twolane messages local-TaskQueue --task app.tasks.send_notification --json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Its own flags."""
    parser.add_argument("queue", metavar="QUEUE", help="the queue's name")
    parser.add_argument("--task", metavar="NAME", help="only this task's messages")
    parser.add_argument("--limit", type=int, default=100, help="at most so many (100)")


def run(options: argparse.Namespace) -> int:
    """What is on it, in the queue's order; receives nothing from an emulator's queue."""
    with progress(f"looking into {options.queue}"):
        found = open_source(options).messages(options.queue, limit=options.limit)
    if options.task is not None:
        found = [each for each in found if each.get("task", {}).get("name") == options.task]
    if options.json:
        say_json(found)
    else:
        say(messages_table(found, now=time.time()))
    return exits.DONE


def messages_table(messages: Iterable[Mapping[str, Any]], *, now: float) -> str:
    """For a person: each message's whole id, and the task as a call."""
    rows = [
        [
            message["id"],
            _state(message, now),
            message["receiveCount"],
            seconds(now - message["sentAt"]),
            one_line(call_of(message), 60),
        ]
        for message in messages
    ]
    if not rows:
        return "no message"
    return table(["MESSAGE", "STATE", "RECEIVED", "AGE", "TASK"], rows, right=(2, 3))


def _state(message: Mapping[str, Any], now: float) -> str:
    if message["state"] == "visible" or "visibleAt" not in message:
        return str(message["state"])
    return f"{message['state']}, visible in {seconds(message['visibleAt'] - now)}"


def call_of(message: Mapping[str, Any]) -> str:
    """``app.tasks.send('a@example.com', times=2)``, or the body of what is no task."""
    task = message.get("task") or {}
    if "name" not in task:
        return f"(no task) {message.get('body', '')}"
    if "args" not in task:
        shown = [task[name] for name in ("argsRepr", "kwargsRepr") if task.get(name)]
        return " ".join([task["name"], *shown])
    words = [repr(value) for value in task["args"]]
    words += [f"{name}={value!r}" for name, value in (task.get("kwargs") or {}).items()]
    return f"{task['name']}({', '.join(words)})"
