"""Writes the reference in docs/commands.md: ``python -m twolane_local.cli.reference``.

From ``<!-- reference -->`` to its end the page has the exit codes and, for each command, its
description, flags and examples. A test compares them with the parser.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from twolane_local.cli import exits
from twolane_local.cli.parser import GROUPS, command_module, parser

if TYPE_CHECKING:
    from collections.abc import Iterator

MARK = "<!-- reference: made by `python -m twolane_local.cli.reference`, do not edit below -->\n"
PAGE = Path("docs/commands.md")
_TITLES = {
    "run": "Start and call",
    "see": "See what happened",
    "act": "Act on it",
    "check": "Check",
}


def reference() -> str:
    top = parser()
    commands = _below(top)
    lines = ["## Exit codes", "", "| code | |", "|---|---|"]
    lines += [f"| {code} | {text} |" for code, text in exits.MEANINGS.items()]
    for group, names in GROUPS.items():
        lines += ["", f"## {_TITLES.get(group, group)}"]
        for name in names:
            lines += ["", *_command(name, commands[name])]
    return "\n".join([*lines, ""])


def page(text: str) -> str:
    """Return the page with a new reference."""
    return text.partition(MARK)[0] + MARK + "\n" + reference()


def _command(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    yield f"### `twolane {name}`"
    yield ""
    yield str(command.description)
    yield from _flags(command)
    for action, below in _below(command).items():
        yield ""
        yield f"`twolane {name} {action}`: {below.description}"
        yield from _flags(below)
    yield ""
    yield "```text"
    yield from getattr(command_module(name), "EXAMPLES", ())
    yield "```"


def _flags(command: argparse.ArgumentParser) -> Iterator[str]:
    rows = [
        f"| {_name(action)} | {str(action.help).replace('|', chr(92) + '|')} |"
        for action in command._actions  # noqa: SLF001 - argparse has no other way to its flags
        if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction)  # noqa: SLF001
    ]
    if rows:
        yield from ("", "| | |", "|---|---|", *rows)


def _name(action: argparse.Action) -> str:
    value = action.metavar or ("{" + ",".join(map(str, action.choices)) + "}"
                               if action.choices else action.dest.upper())  # fmt: skip
    shown = str(value).replace("|", "\\|")
    if not action.option_strings:
        return f"`{shown}`"
    flags = ", ".join(action.option_strings)
    return f"`{flags}`" if action.nargs == 0 else f"`{flags} {shown}`"


def _below(command: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in command._actions:  # noqa: SLF001
        if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
            return dict(action.choices)
    return {}


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE
    target.write_text(page(target.read_text("utf-8")), "utf-8")
