"""``twolane messages QUEUE``"""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any

from twolane_local.cli.text import one_line, print_found, progress, seconds, table
from twolane_local.remote import source_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

FLAGS = ("source",)
EXAMPLES = (
    "twolane messages local-TaskQueue",
    "twolane messages local-TaskQueue --task app.tasks.send_notification --json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("queue", metavar="QUEUE", help="the queue's name")
    parser.add_argument("--task", metavar="NAME", help="only this task's messages")
    parser.add_argument("--limit", type=int, default=100, help="messages, at most (100)")


def run(options: argparse.Namespace) -> int:
    """Print the messages in the queue's order; an emulator's queue is read without a receive."""
    with progress(f"reading {options.queue}"):
        found = source_for(options).messages(options.queue, limit=options.limit)
    if options.task is not None:
        found = [each for each in found if each.get("task", {}).get("name") == options.task]
    return print_found(options, found, partial(messages_table, now=time.time()))


def messages_table(messages: Iterable[Mapping[str, Any]], *, now: float) -> str:
    """Return a table for people, with whole message ids, and tasks as calls."""
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
    """Return ``app.tasks.send('a@example.com', times=2)``, or the body if it is not a task."""
    task = message.get("task") or {}
    if "name" not in task:
        return f"(no task) {message.get('body', '')}"
    if "args" not in task:
        shown = [task[name] for name in ("argsRepr", "kwargsRepr") if task.get(name)]
        return " ".join([task["name"], *shown])
    words = [repr(value) for value in task["args"]]
    words += [f"{name}={value!r}" for name, value in (task.get("kwargs") or {}).items()]
    return f"{task['name']}({', '.join(words)})"
