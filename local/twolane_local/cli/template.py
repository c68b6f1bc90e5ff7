"""``twolane template``"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from twolane_local import template
from twolane_local.cli.flags import template_parameters

if TYPE_CHECKING:
    import argparse


FLAGS = ("template",)
EXAMPLES = ("twolane template > expanded.json", "twolane template --parameter Runtime=python3.12")


def run(options: argparse.Namespace) -> int:
    """Print the template, expanded by AWS's translator to CloudFormation in JSON."""
    expanded = template.expand(options.template, template_parameters(options))
    print(json.dumps(expanded, indent=2))
    return 0
