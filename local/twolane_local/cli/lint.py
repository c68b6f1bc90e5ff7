"""``twolane lint``"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from twolane_local.cli.flags import template_parameters

FLAGS = ("template",)
EXAMPLES = (
    "twolane lint",
    "twolane lint --sarif > twolane.sarif",
    "twolane lint --fail-on note --ignore TL107",
    "twolane lint --journal journal.jsonl --inline-budget 0.5",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files", nargs="*", type=Path, metavar="FILE",
        help="templates, raw or expanded, instead of --template",
    )  # fmt: skip
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print the findings as JSON")
    form.add_argument("--sarif", action="store_true", help="print them as SARIF 2.1.0")
    form.add_argument("--list", action="store_true", help="list the rules and check nothing")
    parser.add_argument(
        "--fail-on", choices=("note", "warning", "error"), default="warning",
        help="exit with 1 for a finding of at least this severity (warning)",
    )  # fmt: skip
    parser.add_argument(
        "--ignore", action="append", default=[], metavar="RULE", help="leave a rule out, by id"
    )
    parser.add_argument(
        "--journal",
        type=Path,
        metavar="FILE",
        help="also check a journal, in lines of JSON; - is stdin",
    )
    parser.add_argument(
        "--inline-budget", type=float, default=2.0, metavar="SECONDS",
        help="how long work after a response may take (2)",
    )  # fmt: skip
    parser.add_argument(
        "--template-only", action="store_true", help="do not import the Celery application"
    )


def run(options: argparse.Namespace) -> int:
    """Return 1 if there is a finding of at least the severity ``--fail-on``."""
    from twolane_local.checks.lint import findings as output
    from twolane_local.checks.lint import lint
    from twolane_local.checks.lint.findings import Severity
    from twolane_local.checks.lint.rules import RULES
    from twolane_local.journal import files

    if options.list:
        print("\n".join(output.rules_as_text(RULES)))
        return 0
    journal = files.read(options.journal) if options.journal else []
    found = []
    for path in options.files or [options.template]:
        values = argparse.Namespace(**{**vars(options), "template": path})
        found += lint(
            path,
            template_parameters(values),
            journal=journal,
            inline_budget_s=options.inline_budget,
            ignore=options.ignore,
            with_application=not options.template_only,
        )
    if options.sarif:
        print(json.dumps(output.as_sarif(found, RULES), indent=2))
    elif options.json:
        print(json.dumps(output.as_json(found), indent=2))
    else:
        print("\n".join(output.as_text(found)))
    worst = max((finding.severity for finding in found), default=Severity.NOTE - 1)
    return int(worst >= Severity[options.fail_on.upper()])
