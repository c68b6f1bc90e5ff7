"""``twolane functions``"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from twolane_local.cli.text import milliseconds, print_found, progress, table
from twolane_local.remote import source_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Mapping

FLAGS = ("source",)
EXAMPLES = ("twolane functions", "twolane functions --stack shop --region eu-west-1")


def run(options: argparse.Namespace) -> int:
    with progress("reading the functions"):
        functions = source_for(options).functions()
    return print_found(options, functions, functions_table)


def functions_table(functions: Iterable[Mapping[str, Any]]) -> str:
    """Return a table for people, without empty columns."""
    head = ["FUNCTION", "HANDLER", "MEMORY", "TIMEOUT", "RESERVED", "ENVIRONMENTS", "INVOKED",
            "ERRORS", "THROTTLES", "P50", "P95"]  # fmt: skip
    rows = [
        [
            function.get("logicalId") or function["name"],
            function.get("handler"),
            f"{function['memoryMb']} MB" if function.get("memoryMb") else None,
            f"{function['timeoutSeconds']:g} s" if function.get("timeoutSeconds") else None,
            (function.get("concurrency") or {}).get("reserved"),
            _environments(function),
            function.get("invocations"),
            function.get("errors"),
            function.get("throttles"),
            milliseconds(function.get("p50Ms")),
            milliseconds(function.get("p95Ms")),
        ]
        for function in functions
    ]
    if not rows:
        return "there is no function"
    used = [n for n in range(len(head)) if any(row[n] not in {None, ""} for row in rows)]
    return table([head[n] for n in used], [[row[n] for n in used] for row in rows])


def _environments(function: Mapping[str, Any]) -> str:
    """Return ``1 busy, 2 idle``, from the list of environments, or from the counts."""
    listed = function.get("environments")
    if listed:
        counts: Mapping[str, int] = Counter(each["state"] for each in listed)
    else:
        concurrency = function.get("concurrency") or {}
        counts = {state: concurrency.get(state) or 0 for state in ("busy", "idle", "starting")}
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()) if count)
