"""Asks before something is changed that cannot be taken back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, TextIO

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable


class UnconfirmedError(LocalError):
    """Nothing was changed, since nobody said yes; add --yes."""


def confirm(
    question: str,
    *,
    yes: bool,
    needed: bool,
    terminal: TextIO | None = None,
    answer: Callable[[], str] = input,
) -> None:
    """Go on, or raise ``UnconfirmedError``.

    ``yes`` is ``--yes``. On a terminal the question is asked. Elsewhere the change is made only
    where no yes is ``needed``: an emulator's messages are nobody's, a stack's are somebody's.
    """
    if yes:
        return
    stdin = terminal or sys.stdin
    if not stdin.isatty():
        if needed:
            raise UnconfirmedError(f"{question} Nothing was changed: add --yes to do it")
        return
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    try:
        said = answer().strip().lower()
    except EOFError:
        said = ""
    if said not in {"y", "yes"}:
        raise UnconfirmedError("nothing was changed")
