"""``twolane simulate --exhaustive``"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from twolane_local.cli import exits
from twolane_local.errors import LocalError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from twolane_local.simulator.exhaustive.campaign import Report

_PAGE = Path("docs") / "faults.md"


def run(options: argparse.Namespace) -> int:
    """0 where everything held, 1 where something did not."""
    return _replay(options) if options.replay is not None else _explore(options)


def _explore(options: argparse.Namespace) -> int:
    from twolane_local.simulator.exhaustive import page
    from twolane_local.simulator.exhaustive.campaign import Limits, explore
    from twolane_local.simulator.exhaustive.primitives import PRIMITIVES
    from twolane_local.simulator.exhaustive.runs import STORES

    report = explore(
        _chosen("primitive", options.primitive, tuple(PRIMITIVES)),
        _chosen("store", options.store, STORES),
        jobs=options.jobs,
        limits=Limits(
            options.runs, None if options.minutes is None else options.minutes * 60, options.first
        ),
        progress=_Progress(),
    )
    print(file=sys.stderr)
    if options.table:
        page.write(_PAGE, report)
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        _print(report)
    return exits.NO if report.violations or report.missed else exits.DONE


def _chosen(what: str, asked: list[str] | None, known: Sequence[str]) -> list[str]:
    unknown = [name for name in asked or () if name not in known]
    if unknown:
        raise LocalError(f"there is no {what} {', '.join(unknown)}; there are {', '.join(known)}")
    return list(dict.fromkeys(asked)) if asked else list(known)


class _Progress:
    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, report: Report) -> None:
        violations = report.violations
        for name in sorted(violations.keys() - self._told):
            self._told.add(name)
            print(f"\r! {name}: {violations[name][0]}", file=sys.stderr)
        singles = sum(row.singles for row in report.rows)
        pairs = sum(row.pairs for row in report.rows)
        print(
            f"\r{report.runs} schedules of {singles} single strikes and {pairs or '…'} pairs, "
            f"{len(violations)} with a violation, {report.seconds:.0f} s",
            end="", file=sys.stderr, flush=True,
        )  # fmt: skip


def _print(report: Report) -> None:
    for row in report.rows:
        print(
            f"{row.primitive:16}{row.store:10}{row.points:6} points"
            f"{row.singles_run:6} of {row.singles:6} single strikes"
            f"{row.pairs_run:8} of {row.pairs:7} pairs{len(row.violations):6} violations"
        )
    for name, told in report.violations.items():
        print(f"! {name}: {told[0]}")
        print(f"    again: twolane simulate --exhaustive --replay {name}")
    for name in report.missed:
        print(f"! {name}: did not run as before; a run is to be the same each time")
    print(f"{report.runs} schedules in {report.seconds:.1f} s; {report.left_out} were left out")
    if not report.violations and not report.missed:
        print("all invariants hold: L E M B V S C D")


def _replay(options: argparse.Namespace) -> int:
    from twolane_local.simulator import trace
    from twolane_local.simulator.exhaustive.runs import START, exploring, placement_of

    placement = placement_of(options.replay)
    with exploring(placement.store) as explorer:
        ran = explorer.run(placement)
    told = [str(each) for each in ran.violations]
    if options.json:
        print(
            json.dumps(
                {
                    "schedule": placement.name,
                    "violations": told,
                    "missed": ran.missed,
                    "digest": ran.digest,
                    "points": [
                        {"number": each.number, "point": each.point, "target": each.target,
                         "kinds": each.kinds}
                        for each in ran.crossings
                    ],
                },
                indent=2,
            )
        )  # fmt: skip
    else:
        print(placement.name)
        for fact in ran.history:
            if options.all or fact.kind != "log":
                print(trace.line(fact, START))
        for each in told:
            print(f"! {each}")
        if ran.missed:
            print(f"! {ran.missed} of its strikes never came: the code has changed since")
        print(f"digest {ran.digest}")
    return exits.NO if told or ran.missed else exits.DONE
