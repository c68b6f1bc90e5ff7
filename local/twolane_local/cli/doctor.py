"""``twolane doctor``"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from twolane_local.cli import exits
from twolane_local.cli.flags import json_flag
from twolane_local.cli.text import one_line, progress, red, say, say_json
from twolane_local.errors import LocalError

if TYPE_CHECKING:
    import argparse

    from twolane_local.checks.doctor import Finding

FLAGS = ("template",)
EXAMPLES = ("twolane doctor", "twolane doctor --template shop/template.yaml --json")
_SIGNS = {"ok": "✓", "note": "·", "warning": "?", "error": "!"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Its own flags."""
    json_flag(parser)
    parser.add_argument(
        "--port",
        action="append",
        type=int,
        metavar="PORT",
        help="a port that must be free; may be repeated (3000 and 4566)",
    )


def run(options: argparse.Namespace) -> int:
    """Everything that is looked at, the good with the bad; 1 where something keeps it from work."""
    from twolane_local.checks.doctor import PORTS, examine

    found: list[Finding] = []
    with progress("looking at this machine") as note:
        for finding in examine(options.template, _parameters(options), ports=options.port or PORTS):
            found.append(finding)
            note(f"looked at {finding.check}")
    if options.json:
        say_json([finding.as_dict() for finding in found])
    else:
        _tell(found)
    return exits.NO if any(finding.level == "error" for finding in found) else exits.DONE


def _parameters(options: argparse.Namespace) -> dict[str, str]:
    from twolane_local.cli.options import template_parameters

    try:
        return template_parameters(options)
    except LocalError:
        return dict(options.parameter)  # what is wrong with the template is said among the findings


def _tell(found: list[Finding]) -> None:
    width = max(len(finding.check) for finding in found)
    for finding in found:
        line = f"{_SIGNS[finding.level]} {finding.check:<{width}}  {one_line(finding.what)}"
        say(red(line, sys.stdout) if finding.level == "error" else line)
        if finding.remedy:
            say(f"  {'':<{width}}  → {one_line(finding.remedy)}")
