"""``twolane queues``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.cli import exits
from twolane_local.cli.text import progress, say, say_json, seconds, table
from twolane_local.remote import open_source

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

FLAGS = ("source",)
EXAMPLES = ("twolane queues", "twolane queues --json", "twolane queues --stack shop")


def configure(parser: argparse.ArgumentParser) -> None:
    """It has no flags of its own."""


def run(options: argparse.Namespace) -> int:
    """Every queue, one line each."""
    with progress("asking for the queues"):
        queues = open_source(options).queues()
    if options.json:
        say_json(queues)
    else:
        say(queues_table(queues))
    return exits.DONE


def queues_table(queues: Iterable[Mapping[str, Any]]) -> str:
    """For a person; what is not known stays empty."""
    head = ["QUEUE", "VISIBLE", "IN FLIGHT", "DELAYED", "OLDEST", "READ BY", "DEAD LETTERS"]
    rows = [
        [
            queue["name"],
            queue.get("visible"),
            queue.get("inFlight"),
            queue.get("delayed"),
            seconds(queue.get("oldestAgeSeconds")),
            ", ".join(map(_reader, queue["mappings"])) or _unread(queue),
            _dead_letters(queue),
        ]
        for queue in queues
    ]
    return table(head, rows, right=(1, 2, 3)) if rows else "there is no queue"


def _reader(mapping: Mapping[str, Any]) -> str:
    return str(mapping["function"]) + ("" if mapping["enabled"] else " (disabled)")


def _unread(queue: Mapping[str, Any]) -> str:
    return "" if queue.get("deadLetterOf") else "nothing"


def _dead_letters(queue: Mapping[str, Any]) -> str:
    if queue.get("deadLetterQueue"):
        return f"{queue['deadLetterQueue']} after {queue['maxReceiveCount']}"
    of = ", ".join(queue.get("deadLetterOf") or ())
    return f"of {of}" if of else ""
