"""``twolane tail``"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from twolane_local.cli import exits
from twolane_local.cli.flags import since_flag
from twolane_local.cli.text import progress
from twolane_local.http.json_text import utf8
from twolane_local.journal import redact
from twolane_local.journal.filters import Filter
from twolane_local.journal.lines import EventPrinter
from twolane_local.remote import source_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from twolane_local.journal import Event

FLAGS = ("source",)
EXAMPLES = (
    "twolane tail",
    "twolane tail -f --task app.tasks.send_notification",
    "twolane tail --state failed --since 15m --json",
    "twolane tail -f --stack shop --function WorkerFunction",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--follow", action="store_true", help="follow new events until Ctrl-C"
    )
    parser.add_argument("-n", "--lines", type=int, metavar="N", help="the number of events (50)")
    since_flag(parser)
    parser.add_argument(
        "--function", default="", metavar="NAME", help="only this function's events"
    )
    parser.add_argument("--queue", default="", metavar="NAME", help="only this queue's events")
    parser.add_argument("--task", default="", metavar="NAME", help="only this task's events")
    parser.add_argument(
        "--state", default="", choices=["failed", "retried", "running", "ok"],
        help="only events of this state",
    )  # fmt: skip
    parser.add_argument(
        "--kind", default="", metavar="KIND", help="only this kind, or kinds that begin so: `task`"
    )
    parser.add_argument("--id", default="", metavar="ID", help="only events about this id")
    parser.add_argument("--text", default="", metavar="TEXT", help="only events with this text")
    parser.add_argument("--verbose", action="store_true", help="also the steps in between")


def run(options: argparse.Namespace) -> int:
    """Print the latest events and, with ``--follow``, new ones."""
    names = ("kind", "function", "queue", "task", "state", "id", "text")
    wanted = Filter(**{name: getattr(options, name) for name in names})
    source = source_for(options, back_s=options.since)
    since = None if options.since is None else time.time() - options.since
    lines = options.lines if options.lines is not None else (50 if since is None else 1_000_000)
    # Before the latest events are read, so that none is missed in between.
    coming = source.follow(wanted) if options.follow else iter(())
    with progress("reading the journal"):
        found = source.events(wanted, since=since, limit=lines)
    _show(found, options)
    shown = {_key(event) for event in found}
    _show((event for event in coming if _key(event) not in shown), options)
    return exits.DONE


def _key(event: Event) -> tuple[object, ...]:
    """Return a key that identifies the event: a stack's events have no lasting numbers."""
    return event.at, event.kind, event.request_id, event.task_id, str(event.data)


def _show(events: Iterable[Event], options: argparse.Namespace) -> None:
    """Print one line each and flush it, because a reader of a pipe waits for it."""
    # A kind or an id selects details too.
    everything = options.verbose or bool(options.kind) or bool(options.id)
    printer = EventPrinter(sys.stdout, verbose=everything)
    for event in events:
        if options.json:
            print(utf8(json.dumps(redact.event(event), ensure_ascii=False)).decode())
        else:
            printer.write(event)
        sys.stdout.flush()
