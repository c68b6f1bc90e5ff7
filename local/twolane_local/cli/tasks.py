"""``twolane tasks [NAME]``"""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from twolane_local.cli import exits
from twolane_local.cli.flags import since_flag, window
from twolane_local.cli.text import (
    error_text,
    milliseconds,
    one_line,
    progress,
    say,
    say_json,
    seconds,
    table,
)
from twolane_local.remote import open_source

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
    """Its own flags."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one task: its latest runs")
    parser.add_argument("--limit", type=int, default=20, help="at most so many runs (20)")
    since_flag(parser)


def run(options: argparse.Namespace) -> int:
    """All tasks, or the runs of one; 1 where a task of that name never ran."""
    source = open_source(options, back_s=window(options))
    with progress("counting tasks"):
        if options.name is None:
            found = source.tasks()
        else:
            found = source.runs(options.name, limit=options.limit)
    if options.json:
        say_json(found)
    elif options.name is None:
        say(tasks_table(found))
    elif found:
        say(runs_table(found, now=time.time()))
    else:
        say(f"no run of {options.name} is known in {source.where}", sys.stderr)
    return exits.DONE if found or options.name is None else exits.NO


def tasks_table(tasks: Iterable[Mapping[str, Any]]) -> str:
    """For a person: counts, and how long the attempts took."""
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
    """For a person: the whole id, for `twolane trace` and `twolane replay`."""
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
