"""``twolane tasks [NAME]``"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from twolane_local.cli import exits
from twolane_local.cli.flags import since_flag
from twolane_local.cli.text import (
    error_text,
    milliseconds,
    one_line,
    print_json,
    progress,
    seconds,
    table,
)
from twolane_local.remote import source_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

FLAGS = ("source",)
EXAMPLES = (
    "twolane tasks",
    "twolane tasks app.tasks.send_notification",
    "twolane tasks --stack shop --since 6h --json",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="show the latest runs of this task")
    parser.add_argument("--limit", type=int, default=20, help="runs, at most (20)")
    since_flag(parser)


def run(options: argparse.Namespace) -> int:
    """Print all tasks, or the runs of one; return 1 if that one never ran."""
    source = source_for(options, back_s=options.since)
    with progress("counting tasks"):
        if options.name is None:
            found = source.tasks()
        else:
            found = source.runs(options.name, limit=options.limit)
    if options.json:
        print_json(found)
    elif options.name is None:
        print(tasks_table(found))
    elif found:
        print(runs_table(found, now=time.time()))
    else:
        print(f"no run of {options.name} is known in {source.where}", file=sys.stderr)
    return exits.DONE if found or options.name is None else exits.NO


def tasks_table(tasks: Iterable[Mapping[str, Any]]) -> str:
    """Return a table for people: counts, and the durations of attempts."""
    rows = []
    for task in tasks:
        counts = task["counts"]
        names = ("published", "succeeded", "failed", "retried", "running")
        rows.append(
            [
                task["name"],
                *(counts.get(name) for name in names),
                milliseconds(task.get("p50Ms")),
                milliseconds(task.get("p95Ms")),
            ]
        )
    head = ["TASK", "PUBLISHED", "SUCCEEDED", "FAILED", "RETRIED", "RUNNING", "P50", "P95"]
    return table(head, rows, right=range(1, 8)) if rows else "no task is known"


def runs_table(runs: Iterable[Mapping[str, Any]], *, now: float) -> str:
    """Return a table for people, with whole ids for ``twolane trace`` and ``twolane replay``."""
    rows = [
        [
            run["taskId"],
            run["state"],
            run.get("attempts"),
            milliseconds(run.get("durationMs")),
            f"{seconds(now - run['at'])} ago",
            one_line(error_text(run.get("error")), 60),
        ]
        for run in runs
    ]
    return table(["TASK ID", "STATE", "ATTEMPTS", "TOOK", "SENT", "ERROR"], rows, right=(2, 3))
