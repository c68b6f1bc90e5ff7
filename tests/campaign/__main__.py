"""``python -m tests.campaign --seed 1``: one campaign; exit code 1 for a violation."""

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
from pathlib import Path

from .driver import Wanted, run
from .plan import FAULTS, WEIGHTS
from .table import write


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.campaign", description=__doc__)
    parser.add_argument("--store", choices=("redis", "dynamodb"), default="redis")
    parser.add_argument("--seed", type=int, default=None, metavar="N", help="drawn, if left out")
    parser.add_argument("--tasks", type=int, default=2000, metavar="N")
    parser.add_argument("--chords", type=int, default=50, metavar="N", help="of 20 headers each")
    parser.add_argument("--spread", type=float, default=None, metavar="S",
                        help="seconds over which all is sent (tasks / 30)")  # fmt: skip
    parser.add_argument("--faults", default=",".join(FAULTS), metavar="A,B",
                        help=f"of {', '.join(FAULTS)}; none: nothing goes wrong")  # fmt: skip
    parser.add_argument("--without", default="", metavar="A,B",
                        help=f"kinds of units to leave out, of {', '.join(WEIGHTS)}")  # fmt: skip
    parser.add_argument("--max-receives", type=int, default=6, metavar="N")
    parser.add_argument("--keep", type=Path, default=None, metavar="DIR",
                        help="put the logs, effects and queues there")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON")
    parser.add_argument("--table", type=Path, nargs="+", default=None, metavar="FILE",
                        help="write these outcomes' table into docs/faults.md")  # fmt: skip
    options = parser.parse_args()
    if options.table:
        write([json.loads(file.read_text()) for file in options.table])
        return 0
    seed = options.seed if options.seed is not None else random.SystemRandom().getrandbits(24)
    faults = [] if options.faults == "none" else options.faults.split(",")
    if unknown := set(faults) - set(FAULTS):
        parser.error(f"no such fault: {', '.join(sorted(unknown))}")
    wanted = Wanted(
        seed, options.store, options.tasks, options.chords, faults,
        options.spread or options.tasks / 30, max_receives=options.max_receives,
        without=frozenset(options.without.split(",")),
    )  # fmt: skip
    sys.stderr.write(f"seed {seed}\n")
    # So that a campaign that is ended from outside leaves no process behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.keep is not None:
        options.keep.mkdir(parents=True, exist_ok=True)
        outcome = run(wanted, options.keep.resolve()).as_dict()
        (options.keep / "outcome.json").write_text(json.dumps(outcome, indent=2))
    else:
        with tempfile.TemporaryDirectory(prefix="twolane-campaign-") as folder:
            outcome = run(wanted, Path(folder)).as_dict()
    _print(outcome, as_json=options.json)
    return 1 if outcome["violations"] else 0


def _print(outcome: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(outcome, indent=2))
        return
    print(json.dumps({k: v for k, v in outcome.items() if k not in {"violations", "duplicates"}}))
    for name in ("duplicates", "violations"):
        lines = outcome[name]
        assert isinstance(lines, list)
        for line in lines:
            print(f"{'!' if name == 'violations' else ' '} {line}")
    if not outcome["violations"]:
        print("no violation")


if __name__ == "__main__":
    sys.exit(main())
