"""``twolane replay ID``"""

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
    "twolane replay 5f0c1c1e-6f6f-4d0e-9a55-0b9c8a3d2e11",
    'twolane replay 5f0c1c1e --args \'["b@example.com", "hello"]\'',
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Its own flags."""
    parser.add_argument("id", metavar="ID", help="of a request, task or message")
    arguments_flags(parser, what="other arguments, of a task")
    yes_flag(parser)


def run(options: argparse.Namespace) -> int:
    """A task again under a new id, a message's body again, or a request's event again."""
    edit = edit_of(options)
    source = open_source(options)
    if source.real:
        confirm(f"Run {options.id} again on {source.where}?", yes=options.yes, needed=True)
    done = source.replay(options.id, edit)
    if options.json:
        say_json(done)
    else:
        say(f"{options.id} runs again as {done['kind']} {done['id']}")
    return exits.DONE
