"""``twolane doctor``"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from twolane_local.cli import exits
from twolane_local.cli.flags import json_flag, template_parameters
from twolane_local.cli.text import one_line, print_json, progress, red
from twolane_local.errors import LocalError

if TYPE_CHECKING:
    import argparse

    from twolane_local.checks.doctor import CheckResult

FLAGS = ("template",)
EXAMPLES = ("twolane doctor", "twolane doctor --template shop/template.yaml --json")
_SIGNS = {"ok": "✓", "note": "·", "warning": "?", "error": "!"}


def configure(parser: argparse.ArgumentParser) -> None:
    json_flag(parser)
    parser.add_argument(
        "--port",
        action="append",
        type=int,
        metavar="PORT",
        help="a port that must be free; may be repeated (3000 and 4566)",
    )


def run(options: argparse.Namespace) -> int:
    """Print every finding, good or bad; return 1 if there is an error."""
    from twolane_local.checks.doctor import PORTS, examine

    found: list[CheckResult] = []
    with progress("checking this machine") as note:
        for finding in examine(options.template, _parameters(options), ports=options.port or PORTS):
            found.append(finding)
            note(f"checked {finding.check}")
    if options.json:
        print_json([finding.as_dict() for finding in found])
    else:
        width = max(len(finding.check) for finding in found)
        for finding in found:
            line = f"{_SIGNS[finding.level]} {finding.check:<{width}}  {one_line(finding.what)}"
            print(red(line, sys.stdout) if finding.level == "error" else line)
            if finding.remedy:
                print(f"  {'':<{width}}  → {one_line(finding.remedy)}")
    return exits.NO if any(finding.level == "error" for finding in found) else exits.DONE


def _parameters(options: argparse.Namespace) -> dict[str, str]:
    try:
        return template_parameters(options)
    except LocalError:
        return dict(options.parameter)  # a finding reports the error in the template
