"""``twolane dlq list | show | redrive | purge``: dead letters as tasks."""

from __future__ import annotations

import json
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from twolane_local.cli import exits
from twolane_local.cli.flags import arguments_flags, confirm, edit_of, source_flags, yes_flag
from twolane_local.cli.messages import call_of
from twolane_local.cli.text import (
    error_text,
    one_line,
    print_found,
    print_json,
    progress,
    seconds,
    table,
)
from twolane_local.errors import LocalError
from twolane_local.journal.lines import printable
from twolane_local.journal.tracebacks import fold
from twolane_local.remote import source_for
from twolane_local.remote.source import MessageChoice

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

    from twolane_local.remote.source import Source

FLAGS = ()
EXAMPLES = (
    "twolane dlq list",
    "twolane dlq show 5f0c1c1e",
    "twolane dlq redrive --task app.tasks.send_notification",
    'twolane dlq redrive --id 5f0c1c1e --args \'["b@example.com", "hello"]\'',
    "twolane dlq redrive --all --stack shop --yes",
    "twolane dlq purge --id 5f0c1c1e",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add a parser for each of the four actions."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str) -> argparse.ArgumentParser:
        made = actions.add_parser(name, parents=[source_flags()], help=text, description=text)
        made.add_argument("--queue", metavar="NAME", help="the dead-letter queue (all of them)")
        return made

    listed = action("list", "list the messages on the dead-letter queues, with their errors")
    listed.add_argument("--task", metavar="NAME", help="only this task's messages")
    listed.add_argument("--limit", type=int, default=100, help="messages per queue, at most (100)")
    shown = action("show", "show one dead letter with its body and traceback")
    shown.add_argument("id", metavar="ID", help="id of the message or its task, or its beginning")
    redrive = action("redrive", "send dead letters to their queue again, then delete them here")
    redrive.add_argument(
        "--to", metavar="QUEUE", help="send to this queue, not to the source queue"
    )
    arguments_flags(redrive, what="other arguments for the task")
    purge = action("purge", "delete dead letters for good")
    for changing in (redrive, purge):
        chosen = changing.add_mutually_exclusive_group(required=True)
        chosen.add_argument(
            "--id",
            action="append",
            default=[],
            metavar="ID",
            help="id of the message or its task, or its beginning; may be repeated",
        )
        chosen.add_argument("--task", metavar="NAME", help="all messages of this task")
        chosen.add_argument("--all", action="store_true", help="all messages")
        yes_flag(changing)


def run(options: argparse.Namespace) -> int:
    source = source_for(options)
    code: int = _ACTIONS[options.action](source, options)
    return code


def _list(source: Source, options: argparse.Namespace) -> int:
    with progress("reading the dead-letter queues") as note:
        found: list[Any] = []
        for queue in _queues(source, options.queue):
            note(f"reading {queue}")
            found += source.messages(queue, limit=options.limit)
    if options.task is not None:
        found = [each for each in found if (each.get("task") or {}).get("name") == options.task]
    return print_found(options, found, partial(dead_letters_table, now=time.time()))


def dead_letters_table(messages: Iterable[Mapping[str, Any]], *, now: float) -> str:
    """Return a table for people, with whole message ids for the other actions."""
    rows = [
        [
            message["id"],
            seconds(now - message["sentAt"]),
            message.get("source"),
            one_line(call_of(message), 60),
            one_line(error_text(message.get("error")), 60),
        ]
        for message in messages
    ]
    head = ["MESSAGE", "AGE", "CAME FROM", "TASK", "LAST ERROR"]
    return table(head, rows, right=(1,)) if rows else "there is no dead letter"


def _show(source: Source, options: argparse.Namespace) -> int:
    with progress(f"looking for {options.id}"):
        queues = _queues(source, options.queue)
        found = (source.message(queue, options.id) for queue in queues)
        message = next((each for each in found if each is not None), None)
    if message is None:
        print(f"no dead letter in {source.where} has the id {options.id}", file=sys.stderr)
        return exits.NO
    if options.json:
        print_json(message)
        return exits.DONE
    traceback = (message.get("error") or {}).get("traceback")
    rows = {
        "message": message["id"],
        "on": message["queue"],
        "came from": message.get("source"),
        "sent": f"{seconds(time.time() - message['sentAt'])} ago",
        "received": f"{message['receiveCount']} times",
        "task": call_of(message),
        "task id": (message.get("task") or {}).get("id"),
        "error": error_text(message.get("error")) or None,
    }
    for name, value in rows.items():
        if value is not None:
            print(f"{name:<10} {one_line(str(value))}")
    print(printable(fold(str(traceback))) if traceback else printable(_pretty(message["body"])))
    return exits.DONE


def _pretty(body: str) -> str:
    try:
        return json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return body


def _redrive(source: Source, options: argparse.Namespace) -> int:
    edit = edit_of(options)
    if edit and len(options.id) != 1:
        raise LocalError("--args and --kwargs edit one message: name it with --id")
    choice = _choice(options)
    _confirm(source, f"Redrive {choice}", options, needed=source.real)
    done: dict[str, list[Any]] = {"redriven": [], "failed": []}
    with progress("redriving") as note:
        for queue in _queues(source, options.queue):
            note(f"redriving {queue}, {len(done['redriven'])} done")
            here = source.redrive(queue, choice, to=options.to, edit=edit)
            done = {name: [*done[name], *here[name]] for name in done}
    if options.json:
        print_json(done)
    else:
        for each in done["redriven"]:
            print(f"{each['messageId']} is on {each['queue']} again, as {each['newMessageId']}")
    for each in done["failed"]:
        print(f"! {each['messageId']} stays: {printable(str(each['why']))}", file=sys.stderr)
    return _exit_code(source, choice, len(done["redriven"]), failed=bool(done["failed"]))


def _purge(source: Source, options: argparse.Namespace) -> int:
    choice = _choice(options)
    _confirm(source, f"Delete {choice}", options, needed=True)
    with progress("purging"):
        queues = _queues(source, options.queue)
        purged = {queue: source.purge(queue, choice) for queue in queues}
    if options.json:
        print_json({"purged": purged})
    else:
        for queue, count in purged.items():
            print(f"{count} deleted from {queue}")
    return _exit_code(source, choice, sum(purged.values()), failed=False)


def _exit_code(source: Source, choice: MessageChoice, count: int, *, failed: bool) -> int:
    if not count and not failed:
        print(f"no dead letter in {source.where} matches {choice}", file=sys.stderr)
        return exits.DONE if choice.everything else exits.NO
    return exits.NO if failed else exits.DONE


def _choice(options: argparse.Namespace) -> MessageChoice:
    return MessageChoice(tuple(options.id), options.task, options.all)


def _confirm(source: Source, action: str, options: argparse.Namespace, *, needed: bool) -> None:
    where = f"{options.queue} of " if options.queue else "all dead-letter queues of "
    confirm(f"{action} in {where}{source.where}?", yes=options.yes, needed=needed)


def _queues(source: Source, wanted: str | None) -> list[str]:
    """Return the wanted queue, or every dead-letter queue."""
    if wanted is not None:
        return [wanted]
    found = [queue["name"] for queue in source.queues() if queue.get("deadLetterOf")]
    if not found:
        raise LocalError(
            f"{source.where} has no dead-letter queue: give its queues a RedrivePolicy, or name "
            "one with --queue"
        )
    return found


_ACTIONS = {"list": _list, "show": _show, "redrive": _redrive, "purge": _purge}
