"""What commands ask: a running emulator by its control API, or a deployed stack by boto3.

``address``       Where a running emulator's console is.
``source``        The Protocol ``Source`` that both implement.
``emulator``      A running emulator as a ``Source``.
``running``       The journal of a running emulator.
``stack``         A deployed stack as a ``Source``.
``account``       boto3's clients, and a stack's resources.
``resources``     Functions, queues, results and schedules of a stack.
``dead_letters``  Messages of a stack's queues: read, sent again, deleted.
``logs``          A stack's log lines as journal events.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

    from twolane_local.remote.emulator import EmulatorSource
    from twolane_local.remote.source import Source


def open_source(options: argparse.Namespace, *, back_s: float | None = None) -> Source:
    """The stack that ``--stack`` names, else the running emulator of this project.

    ``back_s`` is how far back a stack's logs are read, in seconds. Raises ``LocalError``, with what
    to do, where there is neither.
    """
    if options.stack is not None:
        from twolane_local.remote.account import Account
        from twolane_local.remote.stack import BACK_S, StackSource

        account = Account(region=options.region, profile=options.profile)
        return StackSource(options.stack, account, back_s=back_s or BACK_S)
    return open_emulator(options.template)


def open_emulator(template: Path | None) -> EmulatorSource:
    """The running emulator of a template, of this folder's project where none is named, or the only
    one.
    """
    from twolane_local.remote.address import choose, find
    from twolane_local.remote.emulator import EmulatorSource

    if template is not None:
        return EmulatorSource(choose(find(), template))
    from twolane_local.errors import TemplateError
    from twolane_local.template import places

    here = Path()
    with suppress(TemplateError):  # whichever of several it is: it is below this folder
        template = places.find(here).path
    return EmulatorSource(choose(find(), template, here))
