"""The table of campaigns in docs/faults.md, made by the runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
BEGIN, END = "<!-- campaign -->\n", "<!-- end of campaign -->"


def table(outcomes: list[dict[str, Any]]) -> str:
    lines = [
        "| store | seed | tasks | effects | faults | done twice, and by what | violations | time |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in sorted(outcomes, key=lambda each: (each["store"] != "redis", each["seed"])):
        why = ", ".join(f"{often} by `{what}`" for what, often in one["explained"].items())
        lines.append(
            f"| {one['store']} | {one['seed']} | {one['tasks']} | {one['effects']} | "
            f"{sum(one['faults'].values())} of {len(one['faults'])} kinds | {why or 'nothing'} | "
            f"{len(one['violations']) or 'none'} | {one['seconds']:.0f} s |"
        )
    return "\n".join(lines) + "\n"


def written(page: str, outcomes: list[dict[str, Any]]) -> str:
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"docs/faults.md has no {BEGIN.strip()} … {END}")
    return f"{head}{BEGIN}\n{table(outcomes)}\n{END}{tail}"


def write(outcomes: list[dict[str, Any]]) -> None:
    PAGE.write_text(written(PAGE.read_text(), outcomes))
