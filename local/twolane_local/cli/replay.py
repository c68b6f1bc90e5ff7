"""``twolane replay ID``"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.cli.flags import arguments_flags, confirm, edit_of, yes_flag
from twolane_local.cli.text import print_found
from twolane_local.remote import source_for

if TYPE_CHECKING:
    import argparse

FLAGS = ("source",)
EXAMPLES = (
    "twolane replay 5f0c1c1e-6f6f-4d0e-9a55-0b9c8a3d2e11",
    'twolane replay 5f0c1c1e --args \'["b@example.com", "hello"]\'',
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("id", metavar="ID", help="id of a request, task or message")
    arguments_flags(parser, what="other arguments for a task")
    yes_flag(parser)


def run(options: argparse.Namespace) -> int:
    """Send a task again under a new id, or a message's body, or invoke with a request's event."""
    edit = edit_of(options)
    source = source_for(options)
    if source.real:
        confirm(f"Run {options.id} again on {source.where}?", yes=options.yes, needed=True)
    done = source.replay(options.id, edit)
    return print_found(options, done, f"{options.id} runs again as {done['kind']} {done['id']}")
