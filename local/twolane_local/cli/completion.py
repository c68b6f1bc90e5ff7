"""``twolane completion SHELL``"""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from twolane_local.cli import exits
from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Iterator

FLAGS = ()
EXAMPLES = (
    "twolane completion bash > ~/.local/share/bash-completion/completions/twolane",
    'twolane completion zsh > "${fpath[1]}/_twolane"',
    "twolane completion fish > ~/.config/fish/completions/twolane.fish",
)
SHELLS = ("bash", "zsh", "fish")
_FILES = frozenset({"FILE", "TEMPLATE"})


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=", ".join(SHELLS))


def run(options: argparse.Namespace) -> int:
    print(script(options.shell))
    return exits.DONE


def script(shell: str) -> str:
    """Return a shell's script, with all commands, flags and values: it does not start Python."""
    try:
        import shtab
    except ImportError as error:
        remedy = "pip install 'twolane-local[completion]'"
        raise LocalError(f"completion needs shtab: {remedy}") from error
    from twolane_local.cli.parser import parser

    top = parser()
    for each in _parsers(top):
        for action in each._actions:  # noqa: SLF001 - argparse has no other way to its flags
            metavar = str(action.metavar or "")
            if metavar in _FILES:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
            elif metavar == "DIR":
                action.complete = shtab.DIRECTORY  # type: ignore[attr-defined]
            if isinstance(action.help, str):
                # A shell would run text in backquotes.
                action.help = re.sub("[`$]", "", action.help)
    text: str = shtab.complete(top, shell)
    return text


def _parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            for below in action.choices.values():
                yield from _parsers(below)
