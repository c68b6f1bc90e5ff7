"""A running emulator, through its control API, or a deployed stack, through boto3, for commands.

``source``        The Protocol ``Source`` that both implement.
``emulator``      A running emulator as a ``Source``; the files with the addresses of consoles.
``stack``         A deployed stack as a ``Source``.
``account``       boto3's clients and errors.
``resources``     The resources of a stack: functions, queues, results and schedules.
``dead_letters``  Messages on a stack's queues: read, sent again, deleted.
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


def source_for(options: argparse.Namespace, *, back_s: float | None = None) -> Source:
    """Return the stack of ``--stack``, with logs from ``back_s`` seconds back, else this project's
    running emulator. Raises ``LocalError`` if there is neither.
    """
    if options.stack is not None:
        from twolane_local.remote.account import Account
        from twolane_local.remote.stack import BACK_S, StackSource

        account = Account(region=options.region, profile=options.profile)
        return StackSource(options.stack, account, back_s=back_s or BACK_S)
    return open_emulator(options.template)


def open_emulator(template: Path | None) -> EmulatorSource:
    """Return the emulator of the template or of this folder's project, or the only one."""
    from twolane_local.remote.emulator import EmulatorSource, choose, find

    if template is not None:
        return EmulatorSource(choose(find(), template))
    from twolane_local.errors import TemplateError
    from twolane_local.template import places

    here = Path()
    with suppress(TemplateError):  # several templates: the running one is below this folder
        template = places.find_template(here).path
    return EmulatorSource(choose(find(), template, here))
