"""``twolane send TASK``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.cli.flags import arguments_flags, confirm, edit_of, yes_flag
from twolane_local.cli.text import print_found
from twolane_local.remote import source_for

if TYPE_CHECKING:
    import argparse

FLAGS = ("source",)
EXAMPLES = (
    'twolane send app.tasks.send_notification --args \'["a@example.com", "hello"]\'',
    "twolane send app.tasks.daily_digest --countdown 30",
    "twolane send app.tasks.daily_digest --stack shop --yes",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="the task's name")
    arguments_flags(parser, what="its arguments")
    parser.add_argument("--countdown", type=float, metavar="S", help="start after so many seconds")
    parser.add_argument("--queue", metavar="NAME", help="the queue, if it is not clear")
    yes_flag(parser)


def run(options: argparse.Namespace) -> int:
    """Send the task in the same message as ``.delay()``."""
    edit = edit_of(options)
    source = source_for(options)
    if source.real:
        confirm(f"Send {options.task} to {source.where}?", yes=options.yes, needed=True)
    sent = source.send(
        options.task,
        args=edit.args or (),
        kwargs=edit.kwargs or {},
        countdown=options.countdown,
        queue=options.queue,
    )
    text = f"{options.task} is on {sent['queue']} as task {sent['taskId']}"
    return print_found(options, sent, text)
