"""``twolane trace ID``"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

from twolane_local.cli import exits
from twolane_local.cli.progress import progress
from twolane_local.cli.span import since_flag, window
from twolane_local.cli.text import milliseconds, red, say, say_json
from twolane_local.cli.waterfall import waterfall
from twolane_local.errors import LocalError
from twolane_local.inspect.opening import open_source

if TYPE_CHECKING:
    import argparse

FLAGS = ("source",)
EXAMPLES = (
    "twolane trace 5f0c1c1e",
    "twolane trace 5f0c1c1e-6f6f-4d0e-9a55-0b9c8a3d2e11 --stack shop --since 1d",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Its own flags."""
    parser.add_argument(
        "id", metavar="ID", help="of a request, task or message; 8 characters of it will do here"
    )
    since_flag(parser)


def run(options: argparse.Namespace) -> int:
    """The waterfall, and why it does not move where it does not; 1 where nothing has that id."""
    if len(options.id) < 8:
        raise LocalError(f"{options.id!r} is too short to be the beginning of an id: 8 characters")
    source = open_source(options, back_s=window(options))
    with progress(f"looking for {options.id}"):
        trace = source.trace(options.id)
        reasons = source.why(options.id) if trace is not None else []
    if trace is None:
        say(f"nothing has the id {options.id} in {source.where}", sys.stderr)
        return exits.NO
    if options.json:
        say_json(trace)
        return exits.DONE
    width = shutil.get_terminal_size((100, 24)).columns
    first = min((span["start"] for span in trace["spans"]), default=0.0)
    last = max((span["end"] or span["start"] for span in trace["spans"]), default=0.0)
    say(f"{trace['id']}, {len(trace['spans'])} steps, {milliseconds((last - first) * 1000)}")
    for line in waterfall(trace, width=width):
        say(red(line, sys.stdout) if " ! " in line else line)
    for reason in reasons:
        say(f"why: {reason}")
    return exits.DONE
