"""``twolane send TASK``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.cli import exits
from twolane_local.cli.flags import arguments_flags, edit_of, yes_flag
from twolane_local.cli.options import confirm
from twolane_local.cli.text import say, say_json
from twolane_local.remote import open_source

if TYPE_CHECKING:
    import argparse

FLAGS = ("source",)
EXAMPLES = (
    'twolane send app.tasks.send_notification --args \'["a@example.com", "hello"]\'',
    "twolane send app.tasks.daily_digest --countdown 30",
    "twolane send app.tasks.daily_digest --stack shop --yes",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Its own flags."""
    parser.add_argument("task", metavar="TASK", help="the task's name")
    arguments_flags(parser, what="its arguments")
    parser.add_argument("--countdown", type=float, metavar="S", help="not before so many seconds")
    parser.add_argument("--queue", metavar="NAME", help="the queue, where it cannot be told")
    yes_flag(parser)


def run(options: argparse.Namespace) -> int:
    """Put it on its queue, in the envelope of ``.delay()``."""
    edit = edit_of(options)
    source = open_source(options)
    if source.real:
        confirm(f"Send {options.task} to {source.where}?", yes=options.yes, needed=True)
    sent = source.send(
        options.task,
        args=edit.args or (),
        kwargs=edit.kwargs or {},
        countdown=options.countdown,
        queue=options.queue,
    )
    if options.json:
        say_json(sent)
    else:
        say(f"{options.task} is on {sent['queue']} as task {sent['taskId']}")
    return exits.DONE
