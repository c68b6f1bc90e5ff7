"""Flags that several commands have, each set only where it means something."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

#: This very object where no template is named: the project's own is looked for.
UNNAMED = Path("template.yaml")


def template_flags() -> argparse.ArgumentParser:
    """For what reads the project: which template, and with which values."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("the project")
    parser.set_defaults(template_why="")
    group.add_argument(
        "--template",
        type=Path,
        default=UNNAMED,
        metavar="FILE",
        help="the template (template.yaml, or what SAM, CDK or Serverless made)",
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
    """For what starts an emulator of its own."""
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
    """For what looks at something that runs: an emulator, or a deployed stack."""
    parser = argparse.ArgumentParser(add_help=False)
    group = parser.add_argument_group("where to look")
    group.add_argument(
        "--template", type=Path, metavar="FILE", help="the emulator of this template, of several"
    )
    group.add_argument("--stack", metavar="NAME", help="a deployed stack instead of the emulator")
    group.add_argument("--region", metavar="REGION", help="the stack's region ($AWS_REGION)")
    group.add_argument("--profile", metavar="NAME", help="the AWS profile ($AWS_PROFILE)")
    json_flag(parser)
    return parser


def json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON, in the API's shapes")


def yes_flag(parser: argparse.ArgumentParser) -> None:
    """For what changes something."""
    parser.add_argument(
        "--yes", action="store_true", help="do it without asking; a stack is only read without it"
    )


#: By the name that a command module gives in ``FLAGS``.
SETS = {"template": template_flags, "emulator": emulator_flags, "source": source_flags}


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
