"""Flags that several commands have."""

from __future__ import annotations

import argparse
import json
import os
import re
from pathlib import Path
from typing import Any

from twolane_local.errors import LocalError
from twolane_local.remote.source import Edit

#: The default of ``--template``, compared by identity: the project's own template is then searched.
UNNAMED = Path("template.yaml")


def template_flags() -> argparse.ArgumentParser:
    """Return the flags of commands that read the template."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("the project")
    parser.set_defaults(template_why="", template_named=True)
    group.add_argument(
        "--template",
        type=Path,
        default=UNNAMED,
        metavar="FILE",
        help="the template (template.yaml, or the output of SAM, CDK or Serverless)",
    )
    group.add_argument(
        "--parameter",
        action="append",
        type=_pair,
        default=[],
        metavar="NAME=VALUE",
        help="a value for one of the template's Parameters; may be repeated",
    )
    group.add_argument(
        "--parameter-file",
        action="append",
        type=Path,
        default=[],
        metavar="FILE",
        help="values for its Parameters, in JSON, YAML or as .env; may be repeated",
    )
    group.add_argument(
        "--config-env", default="default", metavar="NAME", help="the table of samconfig.toml"
    )
    return parser


def emulator_flags() -> argparse.ArgumentParser:
    """Return the flags of commands that start an emulator."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("the emulator")
    group.add_argument(
        "--redis-url",
        default=os.environ.get("REDIS_URL") or None,
        metavar="URL",
        help="a Redis to use instead of starting one ($REDIS_URL)",
    )
    group.add_argument(
        "--import",
        dest="imports",
        action="append",
        type=_pair,
        default=[],
        metavar="NAME=VALUE",
        help="a value for another stack's export (Fn::ImportValue); may be repeated",
    )
    group.add_argument(
        "--in-process",
        action="store_true",
        help="call the handlers in this process, so that a debugger stops in them",
    )
    group.add_argument(
        "--allow-real-aws",
        action="store_true",
        help="let functions resolve real AWS hosts (their credentials stay dummies)",
    )
    group.add_argument(
        "--stack-name", metavar="NAME", help="AWS::StackName (samconfig.toml's, or local)"
    )
    return parser


def source_flags() -> argparse.ArgumentParser:
    """Return the flags of commands that read a running emulator or a deployed stack."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("where to look")
    group.add_argument(
        "--template",
        type=Path,
        metavar="FILE",
        help="the emulator of this template, if several run",
    )
    group.add_argument("--stack", metavar="NAME", help="a deployed stack instead of the emulator")
    group.add_argument("--region", metavar="REGION", help="the stack's region ($AWS_REGION)")
    group.add_argument("--profile", metavar="NAME", help="the AWS profile ($AWS_PROFILE)")
    json_flag(parser)
    return parser


def json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, in the API's shapes")


def yes_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--yes", action="store_true", help="do not ask; required to change a stack from a script"
    )


#: By the names in the ``FLAGS`` of a command's module.
SETS = {"template": template_flags, "emulator": emulator_flags, "source": source_flags}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def since_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since",
        type=duration,
        metavar="SPAN",
        help="how far back: 90s, 15m, 6h, 2d (1h in a stack's logs)",
    )


def duration(text: str) -> float:
    """Return the seconds of ``90s``, ``15m``, ``6h`` or ``2d``."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a span such as 90s, 15m, 6h or 2d")
    return float(found[1]) * _UNITS[found[2]]


def arguments_flags(parser: argparse.ArgumentParser, *, what: str) -> None:
    parser.add_argument("--args", metavar="JSON", help=f"{what}: a list, '[\"a\", 1]'")
    parser.add_argument("--kwargs", metavar="JSON", help=f"{what}, by name: '{{\"times\": 2}}'")


def edit_of(options: argparse.Namespace) -> Edit:
    """Return the values of ``arguments_flags``. Raises ``LocalError`` for the wrong JSON type."""
    return Edit(
        args=_json(options.args, list, "--args", "'[\"a@example.com\", 2]'"),
        kwargs=_json(options.kwargs, dict, "--kwargs", "'{\"times\": 2}'"),
    )


def _json(text: str | None, kind: type[Any], flag: str, example: str) -> Any:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise LocalError(f"{flag} is not JSON ({error}); write it as {example}") from error
    if not isinstance(value, kind):
        wanted = "list" if kind is list else "object"
        raise LocalError(f"{flag} takes a JSON {wanted} such as {example}")
    return value
