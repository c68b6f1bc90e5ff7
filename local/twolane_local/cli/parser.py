"""The whole command line as one parser, and the help that fits a screen."""

from __future__ import annotations

import argparse
import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING

from twolane_local.cli.flags import SETS

if TYPE_CHECKING:
    from types import ModuleType


GROUPS: dict[str, dict[str, str]] = {
    "run": {
        "up": "Start everything that the template asks for, on this machine.",
        "invoke": "Invoke one function once, print its response.",
        "env": "Print the exports that point the AWS tools at the emulator.",
        "template": "Print the template expanded to CloudFormation.",
    },
    "see": {
        "trace": "One request, task or message over both lanes, as a waterfall.",
        "tail": "What happens, as it happens, or what has happened.",
        "tasks": "Tasks by name: counts, durations, failures; the runs of one.",
        "queues": "Depth, in flight, oldest, dead letters, and who reads them.",
        "messages": "What is on a queue, decoded as tasks.",
        "functions": "Functions and their execution environments.",
    },
    "act": {
        "send": "Send a task, as .delay() does.",
        "replay": "Run a task, a message or a request again, edited if wanted.",
        "dlq": "Dead letters: list, show, redrive or purge them as tasks.",
        "schedules": "List what beat sends next, send one now, write them out.",
    },
    "check": {
        "lint": "What is wrong with the template, with lines and fixes.",
        "advise": "Which lane each piece of work belongs in, and what it costs.",
        "simulate": "Random schedules with faults against the application.",
        "doctor": "What is wrong with this machine or project, and what to do.",
        "completion": "Print the completion script of bash, zsh or fish.",
    },
}

COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}


_USAGE = "twolane [-h] [--version] COMMAND …"
_FOOTER = "`twolane COMMAND --help`: flags and examples. --stack NAME: a deployed stack."


class _Top(argparse.ArgumentParser):
    """argparse's own list of commands would not fit on 24 lines."""

    def format_help(self) -> str:
        width = max(map(len, COMMANDS))
        lines = [f"usage: {_USAGE}", "", "FastAPI and Celery on AWS Lambda, locally."]
        for group, commands in GROUPS.items():
            for number, (name, text) in enumerate(commands.items()):
                head = group if number == 0 else ""
                lines.append(f"{head:<6} {name:<{width}}  {text}")
        return "\n".join([*lines, _FOOTER, ""])


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """The whole command line; with ``only`` the flags of that command alone, which is faster."""
    top = _Top(prog="twolane", usage=_USAGE)
    top.add_argument("--version", action="version", version=f"twolane {version('twolane')}")
    commands = top.add_subparsers(
        dest="command",
        required=True,
        metavar="COMMAND",
        title="commands",
        parser_class=argparse.ArgumentParser,
    )
    for name, text in COMMANDS.items():
        if only in COMMANDS and name != only:
            commands.add_parser(name)
            continue
        module = command_module(name)
        command = commands.add_parser(
            name,
            parents=[SETS[each]() for each in flags(module)],
            help=text,
            description=text,
            epilog=_examples(module),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.configure(command)
    return top


def command_module(name: str) -> ModuleType:
    """What runs the command of that name."""
    return importlib.import_module(f"twolane_local.cli.{name}")


def flags(module: ModuleType) -> tuple[str, ...]:
    """The sets of flags that a command shares with others."""
    names: tuple[str, ...] = getattr(module, "FLAGS", ("template", "emulator"))
    return names


def _examples(module: ModuleType) -> str | None:
    lines = [f"  {line}" for line in getattr(module, "EXAMPLES", ())]
    return "\n".join(["examples:", *lines]) if lines else None
