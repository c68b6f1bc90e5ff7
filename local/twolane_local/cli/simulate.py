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

    from twolane_local.simulator.many import Tally

FLAGS: tuple[str, ...] = ()
EXAMPLES = (
    "twolane simulate --runs 1000 --jobs 4",
    "twolane simulate --seed 75",
    "twolane simulate --runs 300 --json",
    "twolane simulate --exhaustive --minutes 10 --jobs 2",
    "twolane simulate --exhaustive --replay chord/redis/12:killed+31:answer-lost",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Its own flags."""
    parser.add_argument(
        "--seed", type=int, default=None, metavar="N", help="one run, told step by step"
    )
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the first seed (0)")
    parser.add_argument(
        "--runs", type=int, default=None, metavar="N",
        help="how many runs (100; with --exhaustive: all that there are)",
    )  # fmt: skip
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count() or 1, metavar="N", help="processes (all cores)"
    )
    parser.add_argument(
        "--shrink", action="store_true", help="with --seed: leave out what the violation needs not"
    )
    parser.add_argument("--all", action="store_true", help="with --seed: every step of the run")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    every = parser.add_argument_group(
        "every placement of faults, in a small application of its own"
    )
    every.add_argument(
        "--exhaustive", action="store_true",
        help="strike each primitive once at each point where something can strike, and then twice",
    )  # fmt: skip
    every.add_argument(
        "--primitive", action="append", metavar="NAME", help="this one only; may be repeated (all)"
    )
    every.add_argument(
        "--store", action="append", metavar="NAME", help="redis or dynamodb; may be repeated (both)"
    )
    every.add_argument(
        "--minutes", type=float, default=None, metavar="N",
        help="stop after so long; pairs of strikes are then drawn (no limit)",
    )  # fmt: skip
    every.add_argument(
        "--replay", default=None, metavar="SCHEDULE", help="one of them again, told step by step"
    )
    every.add_argument(
        "--table", action="store_true", help="write what was run into docs/faults.md"
    )


def run(options: argparse.Namespace) -> int:
    """0 where every invariant held, 1 where one did not."""
    if options.exhaustive:
        from twolane_local.cli import exhaustive

        return exhaustive.run(options)
    options.runs = 100 if options.runs is None else options.runs
    root = Path.cwd() / "handlers"
    if not (root / "app").is_dir():
        raise LocalError(
            f"there is no application in {root}; run it where template.yaml and handlers/app are"
        )
    return _one(options, root) if options.seed is not None else _many(options, root)


def _many(options: argparse.Namespace, root: Path) -> int:
    from twolane_local.simulator.many import run_many

    told: set[int] = set()

    def progress(tally: Tally) -> None:
        for seed in sorted(tally.violations.keys() - told):
            told.add(seed)
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
        _print(tally)
    return exits.NO if tally.violations else exits.DONE


def _print(tally: Tally) -> None:
    print(
        f"{tally.runs} schedules, {tally.tasks} tasks, {tally.effects} effects, "
        f"{sum(tally.faults.values())} faults of {len(+tally.faults)} kinds "
        f"in {tally.seconds:.1f} s"
    )
    for seed, told in sorted(tally.violations.items()):
        print(f"! seed {seed}: {told[0]}")
        print(f"    again: twolane simulate --seed {seed}")
    if not tally.violations:
        print("all invariants hold: L E M B V S")


def _one(options: argparse.Namespace, root: Path) -> int:
    from twolane_local.simulator import trace
    from twolane_local.simulator.demo import demo
    from twolane_local.simulator.play import play
    from twolane_local.simulator.schedule import draw
    from twolane_local.simulator.shrink import shrink

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
            for line in trace.lines(outcome, application.start, everything=options.all):
                print(line)
    return exits.NO if outcome.violations else exits.DONE
