"""``twolane simulate``"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from twolane_local.cli import exits
from twolane_local.errors import LocalError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from twolane_local.testing.simulation.campaign import Report
    from twolane_local.testing.simulation.play import Tally


FLAGS: tuple[str, ...] = ()
EXAMPLES = (
    "twolane simulate --runs 1000 --jobs 4",
    "twolane simulate --seed 75",
    "twolane simulate --runs 300 --json",
    "twolane simulate --exhaustive --minutes 10 --jobs 2",
    "twolane simulate --exhaustive --replay chord/redis/12:killed+31:answer-lost",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="one run, step by step")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first seed (0)")
    parser.add_argument(
        "--runs", type=int, default=None, metavar="N",
        help="the number of runs (100; all with --exhaustive)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (all cores)"
    )
    parser.add_argument(
        "--shrink", action="store_true", help="with --seed: remove steps that do not matter"
    )
    parser.add_argument("--all", action="store_true", help="with --seed: every step of the run")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    every = parser.add_argument_group("every placement of faults, in small applications of its own")
    every.add_argument(
        "--exhaustive", action="store_true",
        help="inject each fault once at each possible point of a primitive, and then in pairs",
    )  # fmt: skip
    every.add_argument(
        "--primitive", action="append", metavar="NAME", help="this one only; may be repeated (all)"
    )
    every.add_argument(
        "--store", action="append", metavar="NAME", help="redis or dynamodb; may be repeated (both)"
    )
    every.add_argument(
        "--minutes", type=float, default=None, metavar="N",
        help="stop after so many minutes, and draw the pairs at random (no limit)",
    )  # fmt: skip
    every.add_argument(
        "--replay", default=None, metavar="SCHEDULE", help="run one of them again, step by step"
    )
    every.add_argument("--table", action="store_true", help="write the results into docs/faults.md")


def run(options: argparse.Namespace) -> int:
    """Return 1 if an invariant was violated, else 0."""
    if options.exhaustive:
        return _replay(options) if options.replay is not None else _explore(options)
    options.runs = 100 if options.runs is None else options.runs
    root = Path.cwd() / "handlers"
    if not (root / "app").is_dir():
        raise LocalError(
            f"there is no application in {root}; run it where template.yaml and handlers/app are"
        )
    return _one(options, root) if options.seed is not None else _many(options, root)


def _many(options: argparse.Namespace, root: Path) -> int:
    from twolane_local.testing.simulation.play import run_many

    shown: set[int] = set()

    def progress(tally: Tally) -> None:
        for seed in sorted(tally.violations.keys() - shown):
            shown.add(seed)
            print(f"\r! seed {seed}: {tally.violations[seed][0]}", file=sys.stderr)
        print(
            f"\r{tally.runs}/{options.runs} schedules, {len(tally.violations)} with a violation, "
            f"{tally.seconds:.0f} s",
            end="",
            file=sys.stderr,
            flush=True,
        )

    tally = run_many(options.first, options.runs, options.jobs, progress, root)
    print(file=sys.stderr)
    if options.json:
        print(json.dumps(tally.as_dict(), indent=2))
    else:
        print(
            f"{tally.runs} schedules, {tally.tasks} tasks, {tally.effects} effects, "
            f"{sum(tally.faults.values())} faults of {len(+tally.faults)} kinds "
            f"in {tally.seconds:.1f} s"
        )
        for seed, violations in sorted(tally.violations.items()):
            print(f"! seed {seed}: {violations[0]}")
            print(f"    again: twolane simulate --seed {seed}")
        if not tally.violations:
            print("all invariants hold: L E M B V S")
    return exits.NO if tally.violations else exits.DONE


def _one(options: argparse.Namespace, root: Path) -> int:
    from twolane_local.testing.simulation.demo import demo
    from twolane_local.testing.simulation.play import draw, lines, play, shrink

    with demo(root) as application:
        schedule = draw(options.seed)
        outcome = play(application, schedule)
        if options.shrink and outcome.violations:
            outcome = shrink(application, outcome)
        if options.json:
            print(
                json.dumps(
                    {
                        "schedule": outcome.schedule.as_dict(),
                        "violations": [str(each) for each in outcome.violations],
                        "faults": outcome.fired,
                        "digest": outcome.digest,
                    },
                    indent=2,
                )
            )
        else:
            for line in lines(outcome, application.start, everything=options.all):
                print(line)
    return exits.NO if outcome.violations else exits.DONE


_PAGE = Path("docs") / "faults.md"


def _explore(options: argparse.Namespace) -> int:
    from twolane_local.testing.simulation.campaign import Limits, explore, write_table
    from twolane_local.testing.simulation.placements import STORES
    from twolane_local.testing.simulation.primitives import PRIMITIVES

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
        write_table(_PAGE, report)
    if options.json:
        print(json.dumps(report.as_dict(), indent=2))
    else:
        for row in report.rows:
            print(
                f"{row.primitive:16}{row.store:10}{row.points:6} points"
                f"{row.singles_run:6} of {row.singles:6} single strikes"
                f"{row.pairs_run:8} of {row.pairs:7} pairs{len(row.violations):6} violations"
            )
        for name, violations in report.violations.items():
            print(f"! {name}: {violations[0]}")
            print(f"    again: twolane simulate --exhaustive --replay {name}")
        for name in report.missed:
            print(f"! {name}: did not run as before; each run must be the same")
        print(f"{report.runs} schedules in {report.seconds:.1f} s; {report.left_out} were left out")
        if not report.violations and not report.missed:
            print("all invariants hold: L E M B V S C D")
    return exits.NO if report.violations or report.missed else exits.DONE


def _chosen(kind: str, wanted: list[str] | None, known: Sequence[str]) -> list[str]:
    unknown = [name for name in wanted or () if name not in known]
    if unknown:
        raise LocalError(f"there is no {kind} {', '.join(unknown)}; there are {', '.join(known)}")
    return list(dict.fromkeys(wanted)) if wanted else list(known)


class _Progress:
    def __init__(self) -> None:
        self._shown: set[str] = set()

    def __call__(self, report: Report) -> None:
        violations = report.violations
        for name in sorted(violations.keys() - self._shown):
            self._shown.add(name)
            print(f"\r! {name}: {violations[name][0]}", file=sys.stderr)
        singles = sum(row.singles for row in report.rows)
        pairs = sum(row.pairs for row in report.rows)
        print(
            f"\r{report.runs} schedules of {singles} single strikes and {pairs or '…'} pairs, "
            f"{len(violations)} with a violation, {report.seconds:.0f} s",
            end="", file=sys.stderr, flush=True,
        )  # fmt: skip


def _replay(options: argparse.Namespace) -> int:
    from twolane_local.testing.simulation.placements import START, exploring, placement_of
    from twolane_local.testing.simulation.play import line

    placement = placement_of(options.replay)
    with exploring(placement.store) as explorer:
        ran = explorer.run(placement)
    violations = [str(each) for each in ran.violations]
    if options.json:
        print(
            json.dumps(
                {
                    "schedule": placement.name,
                    "violations": violations,
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
                print(line(fact, START))
        for each in violations:
            print(f"! {each}")
        if ran.missed:
            print(f"! {ran.missed} of its strikes never happened: the code has changed since")
        print(f"digest {ran.digest}")
    return exits.NO if violations or ran.missed else exits.DONE
