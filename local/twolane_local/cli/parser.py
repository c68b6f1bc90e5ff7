"""The parser of all commands, with a help that fits on one screen."""

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
        "init": "Write handlers, a template and a test for an application.",
        "up": "Start everything in the template on this machine.",
        "invoke": "Invoke one function once and print its response.",
        "env": "Print the exports that point the AWS tools at the emulator.",
        "template": "Print the template expanded to CloudFormation.",
    },
    "see": {
        "trace": "Show one request, task or message over both lanes.",
        "tail": "Show the latest events, or follow new ones.",
        "tasks": "Show tasks with counts and durations, or the runs of one.",
        "queues": "Show queues with depth, age, readers and dead letters.",
        "messages": "Show the messages on a queue, decoded as tasks.",
        "functions": "Show functions and their execution environments.",
    },
    "act": {
        "send": "Send a task, like .delay().",
        "replay": "Run a task, a message or a request again, with edits.",
        "dlq": "List, show, redrive or purge dead letters as tasks.",
        "schedules": "List beat's next tasks, send one now, or export them.",
        "artifact": "Prune and compile what `sam build` made, for cold starts.",
    },
    "check": {
        "lint": "Find mistakes in the template, with lines and fixes.",
        "advise": "Recommend a lane for each piece of work, with costs.",
        "simulate": "Run the application under random schedules with faults.",
        "doctor": "Check this machine and project, with remedies.",
        "completion": "Print the completion script of bash, zsh or fish.",
    },
}

COMMANDS = {name: text for group in GROUPS.values() for name, text in group.items()}

_USAGE = "twolane [-h] [--version] COMMAND …"
_FOOTER = "`twolane COMMAND --help`: flags and examples. --stack NAME: a deployed stack."


class _Top(argparse.ArgumentParser):
    """Prints a shorter help: argparse's list of commands does not fit on 24 lines."""

    def format_help(self) -> str:
        width = max(map(len, COMMANDS))
        lines = [f"usage: {_USAGE}", "FastAPI and Celery on AWS Lambda, locally."]
        for group, commands in GROUPS.items():
            for number, (name, text) in enumerate(commands.items()):
                head = group if number == 0 else ""
                lines.append(f"{head:<6} {name:<{width}}  {text}")
        return "\n".join([*lines, _FOOTER, ""])


def parser(only: str | None = None) -> argparse.ArgumentParser:
    """Return the parser; with ``only`` it has the flags of that command alone, which is faster."""
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
            epilog="\n".join(["examples:", *(f"  {line}" for line in module.EXAMPLES)]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        if hasattr(module, "configure"):
            module.configure(command)
    return top


def command_module(name: str) -> ModuleType:
    return importlib.import_module(f"twolane_local.cli.{name}")


def flags(module: ModuleType) -> tuple[str, ...]:
    """Return the names of the flag sets that a command uses."""
    names: tuple[str, ...] = getattr(module, "FLAGS", ("template", "emulator"))
    return names
