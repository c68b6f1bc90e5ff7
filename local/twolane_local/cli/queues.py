"""``twolane queues``"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.cli.text import print_found, progress, seconds, table
from twolane_local.remote import source_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Mapping, Sequence

FLAGS = ("source",)
EXAMPLES = ("twolane queues", "twolane queues --json", "twolane queues --stack shop")


def run(options: argparse.Namespace) -> int:
    with progress("reading the queues"):
        queues = source_for(options).queues()
    return print_found(options, queues, queues_table)


def queues_table(queues: Sequence[Mapping[str, Any]]) -> str:
    """Return a table for people; unknown values stay empty."""
    head = ["QUEUE", "VISIBLE", "IN FLIGHT", "DELAYED", "OLDEST", "READ BY", "DEAD LETTERS"]
    rows = [
        [
            queue["name"],
            queue.get("visible"),
            queue.get("inFlight"),
            queue.get("delayed"),
            seconds(queue.get("oldestAgeSeconds")),
            _readers(queue),
            _dead_letters(queue),
        ]
        for queue in queues
    ]
    if not rows:
        return "there is no queue"
    return "\n".join([table(head, rows, right=(1, 2, 3)), *_noisy(queues)])


def _noisy(queues: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for queue in queues:
        for group, visible in (queue.get("noisyGroups") or {}).items():
            yield (
                f"{queue['name']}: message group {group} is noisy; quiet groups' messages come "
                f"before its {visible:,}"
            )


def _readers(queue: Mapping[str, Any]) -> str:
    readers = [
        f"{mapping['function']}{'' if mapping['enabled'] else ' (disabled)'}"
        for mapping in queue["mappings"]
    ]
    return ", ".join(readers) or ("" if queue.get("deadLetterOf") else "nothing")


def _dead_letters(queue: Mapping[str, Any]) -> str:
    if queue.get("deadLetterQueue"):
        return f"{queue['deadLetterQueue']} after {queue['maxReceiveCount']}"
    of = ", ".join(queue.get("deadLetterOf") or ())
    return f"of {of}" if of else ""
