"""The ``twolane`` command.

Each command is a module of its own with ``configure(parser)`` and ``run(arguments)``: ``advise``,
``artifact``, ``completion``, ``dlq``, ``doctor``, ``env``, ``functions``, ``init``, ``invoke``,
``lint``, ``messages``, ``queues``, ``replay``, ``schedules``, ``send``, ``simulate``, ``tail``,
``tasks``, ``template``, ``trace``, ``up``. To add one, add its module and its line in ``parser``.

``parser``     All commands as one parser, and the help.
``flags``      Flags that several commands have: finds the template, asks for what is missing.
``text``       Tables, times, progress and JSON on a terminal.
``exits``      Exit codes.
``reference``  Writes docs/commands.md.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from twolane.errors import TwolaneError
from twolane_local.cli import exits
from twolane_local.cli.flags import UnconfirmedError, choose_template
from twolane_local.cli.parser import COMMANDS, command_module, flags, parser
from twolane_local.cli.text import red
from twolane_local.journal.lines import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "main", "parser"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code of ``exits``."""
    given = sys.argv[1:] if arguments is None else arguments
    options = parser(given[0] if given else None).parse_args(given)
    try:
        module = command_module(options.command)
        choose_template(flags(module), options)
        code: int = module.run(options)
        sys.stdout.flush()
    except UnconfirmedError as error:
        _print_error(error)
        return exits.UNCONFIRMED
    except TwolaneError as error:
        _print_error(error)
        return exits.ERROR
    except KeyboardInterrupt:
        return exits.INTERRUPTED
    except BrokenPipeError:
        # Without this, Python reports the error again when it flushes at exit:
        # https://docs.python.org/3/library/signal.html#note-on-sigpipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exits.PIPE_CLOSED
    return code


def _print_error(error: TwolaneError) -> None:
    print(red(f"! {printable(str(error))}", sys.stderr), file=sys.stderr)
