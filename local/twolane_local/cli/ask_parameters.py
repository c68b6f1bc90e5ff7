"""Asks a person at the terminal for the template's parameters that have no value."""

from __future__ import annotations

import sys
from getpass import getpass
from typing import TYPE_CHECKING

from twolane_local import template
from twolane_local.emulator import STORE_PARAMETER
from twolane_local.template.parameters import missing

if TYPE_CHECKING:
    from pathlib import Path


def with_answers(path: Path, given: dict[str, str]) -> dict[str, str]:
    """``given``, with what is answered; whatever stays open is the emulator's to say."""
    declared = template.parameters_of(path)
    names = missing(declared, {*given, STORE_PARAMETER})
    if not names or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return given
    print(f"{path} has parameters without a default:", file=sys.stderr)
    answers: dict[str, str] = {}
    try:
        for name in names:
            description = declared[name].get("Description")
            secret = str(declared[name].get("NoEcho", False)).lower() == "true"
            prompt = f"  {name} ({description}): " if description else f"  {name}: "
            answers[name] = getpass(prompt) if secret else _line(prompt)
    except EOFError:
        print(file=sys.stderr)
    return {**given, **answers}


def _line(prompt: str) -> str:
    # The prompt is no output of the command's: that may go to another program (`--json`).
    print(prompt, end="", file=sys.stderr, flush=True)
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
