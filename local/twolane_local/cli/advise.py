"""``twolane advise``"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from twolane_local.cli.flags import template_parameters

if TYPE_CHECKING:
    import argparse

    from twolane_local.journal import Event


FLAGS = ("template",)
EXAMPLES = (
    "twolane advise",
    "twolane advise --requests-per-month 5000000 --json",
    "cat journal.jsonl | twolane advise --journal -",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--journal", type=Path, metavar="FILE",
        help="a journal in lines of JSON instead of the emulator's; - is stdin",
    )  # fmt: skip
    parser.add_argument(
        "--requests-per-month", type=float, default=1_000_000, metavar="N",
        help="the request rate for the costs (1,000,000)",
    )  # fmt: skip
    parser.add_argument(
        "--inline-budget", type=float, default=2.0, metavar="SECONDS",
        help="how long work after a response may take (2)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the advice as JSON")


def run(options: argparse.Namespace) -> int:
    """Return 0: advice is not an error."""
    from twolane_local.checks import advise as verdict
    from twolane_local.checks.advise import Limits, cost_factors, judge, measure
    from twolane_local.checks.lint.subject import read_subject

    work = measure(_events(options))
    subject = read_subject(options.template, template_parameters(options))
    factors = cost_factors(subject, work, requests=options.requests_per_month)
    limits = Limits(slow_inline_ms=options.inline_budget * 1000)
    judged = [(one, judge(one, limits)) for one in work]
    if options.json:
        print(json.dumps(verdict.as_json(judged, factors), indent=2))
    else:
        print("\n".join(verdict.as_text(judged, factors)))
    return 0


def _events(options: argparse.Namespace) -> list[Event]:
    from twolane_local.journal import files
    from twolane_local.journal.filters import Filter
    from twolane_local.remote import emulator as address
    from twolane_local.remote.emulator import EmulatorSource

    if options.journal is not None:
        return files.read(options.journal)
    folder = None if options.template_named else Path()
    running = address.choose(address.find(), options.template, folder)
    return EmulatorSource(running).events(Filter(), since=None, limit=sys.maxsize)
