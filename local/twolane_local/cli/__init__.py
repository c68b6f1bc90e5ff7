"""The ``twolane`` command."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from twolane.errors import TwolaneError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: By name: the module that runs it, imported only then, and what it does.
COMMANDS = {
    "up": "Start everything that the template asks for, on this machine.",
    "invoke": "Invoke one function once, print its response.",
    "schedules": "List what beat sends next, send one now, or write one schedule for each entry.",
    "env": "Print the exports that point the AWS tools at the emulator.",
    "template": "Print the template expanded to CloudFormation, for linters.",
}


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    top = argparse.ArgumentParser(
        prog="twolane",
        description="FastAPI and Celery on AWS Lambda, locally.",
        epilog="`twolane COMMAND --help` says more.",
    )
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument(
        "--template",
        type=Path,
        default=Path("template.yaml"),
        metavar="FILE",
        help="the SAM template (template.yaml)",
    )
    common.add_argument(
        "--parameter",
        action="append",
        type=_pair,
        default=[],
        metavar="NAME=VALUE",
        help="a value for one of the template's Parameters; may be repeated",
    )
    common.add_argument(
        "--redis-url",
        default=os.environ.get("REDIS_URL") or None,
        metavar="URL",
        help="a Redis to use instead of starting one ($REDIS_URL)",
    )
    common.add_argument(
        "--in-process",
        action="store_true",
        help="call the handlers in this process, so that a debugger stops in them",
    )
    common.add_argument(
        "--allow-real-aws",
        action="store_true",
        help="let functions resolve real AWS hosts (their credentials stay dummies)",
    )
    common.add_argument(
        "--stack-name", metavar="NAME", help="AWS::StackName (samconfig.toml's, or local)"
    )
    common.add_argument(
        "--config-env", default="default", metavar="NAME", help="the table of samconfig.toml"
    )
    for name, text in COMMANDS.items():
        command = commands.add_parser(name, parents=[common], help=text, description=text)
        importlib.import_module(f"twolane_local.cli.{name}").configure(command)
    return top


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 1 for a failed function, 2 for our own errors."""
    options = parser().parse_args(arguments)
    command = importlib.import_module(f"twolane_local.cli.{options.command}")
    try:
        code: int = command.run(options)
    except TwolaneError as error:
        print(f"! {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return code
