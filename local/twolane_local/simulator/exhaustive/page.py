"""The table in ``docs/faults.md``, made by a run."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from pathlib import Path

    from twolane_local.simulator.exhaustive.campaign import Report, Row

BEGIN, END = "<!-- exhaustive -->\n", "<!-- end of exhaustive -->"


def table(report: Report) -> str:
    """Primitives, what was run of each, and what did not hold."""
    lines = [
        "| primitive | store | points | single strikes | pairs | schedules run | violations |",
        "|---|---|---:|---:|---:|---:|---:|",
        *(_line(row) for row in report.rows),
    ]
    totals: dict[str, int] = defaultdict(int)
    for row in report.rows:
        totals["points"] += row.points
        totals["singles"] += row.singles
        totals["pairs"] += row.pairs
    lines.append(
        f"| all | | {totals['points']:,} | {totals['singles']:,} | {totals['pairs']:,} "
        f"| {report.runs:,} | {len(report.violations)} |"
    )
    return "\n".join(lines) + "\n"


def _line(row: Row) -> str:
    cells = (row.points, row.singles, row.pairs, row.schedules, len(row.violations))
    numbers = " | ".join(f"{cell:,}" for cell in cells)
    return f"| {row.primitive} | {row.store} | {numbers} |"


def write(page: Path, report: Report) -> None:
    """Put it between its marks. Raises ``LocalError`` where there are none."""
    text = page.read_text() if page.is_file() else ""
    head, begin, rest = text.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise LocalError(
            f"{page} has no place for the table; run this where twolane's docs/faults.md is"
        )
    page.write_text(f"{head}{begin}\n{table(report)}\n{end}{tail}")
