"""``twolane tail``"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

from twolane_local.cli import exits
from twolane_local.cli.flags import since_flag, window
from twolane_local.cli.text import progress
from twolane_local.http.json_text import utf8
from twolane_local.journal.filters import Filter
from twolane_local.journal.lines import Console
from twolane_local.remote import open_source

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
    """Its own flags."""
    parser.add_argument("-f", "--follow", action="store_true", help="go on until Ctrl-C")
    parser.add_argument("-n", "--lines", type=int, metavar="N", help="the last so many (50)")
    since_flag(parser)
    parser.add_argument("--function", default="", metavar="NAME", help="only of this function")
    parser.add_argument("--queue", default="", metavar="NAME", help="only of this queue")
    parser.add_argument("--task", default="", metavar="NAME", help="only of this task")
    parser.add_argument(
        "--state", default="", choices=["failed", "retried", "running", "ok"], help="only these"
    )
    parser.add_argument(
        "--kind", default="", metavar="KIND", help="only of this kind, or its beginning: `task`"
    )
    parser.add_argument("--id", default="", metavar="ID", help="only about this id")
    parser.add_argument("--text", default="", metavar="TEXT", help="only with this text in it")
    parser.add_argument("--verbose", action="store_true", help="also each step in between")


def run(options: argparse.Namespace) -> int:
    """What has happened and, with ``--follow``, what happens."""
    names = ("kind", "function", "queue", "task", "state", "id", "text")
    wanted = Filter(**{name: getattr(options, name) for name in names})
    source = open_source(options, back_s=window(options))
    since = None if window(options) is None else time.time() - options.since
    lines = options.lines if options.lines is not None else (50 if since is None else 1_000_000)
    # First, so that nothing falls between what was and what comes.
    coming = source.follow(wanted) if options.follow else iter(())
    with progress("reading the journal"):
        found = source.events(wanted, since=since, limit=lines)
    _show(found, options)
    shown = {_key(event) for event in found}
    _show((event for event in coming if _key(event) not in shown), options)
    return exits.DONE


def _key(event: Event) -> tuple[object, ...]:
    """By which one event is known; a stack's have no lasting numbers."""
    return event.at, event.kind, event.request_id, event.task_id, str(event.data)


def _show(events: Iterable[Event], options: argparse.Namespace) -> None:
    """One line each, out at once: whoever reads a pipe waits for it."""
    from twolane_local.journal import redact

    # Whoever asks for a kind or an id wants all of it.
    everything = options.verbose or bool(options.kind) or bool(options.id)
    console = Console(sys.stdout, verbose=everything)
    for event in events:
        if options.json:
            print(utf8(json.dumps(redact.event(event), ensure_ascii=False)).decode())
        else:
            console.tell(event)
        sys.stdout.flush()
