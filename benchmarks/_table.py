"""How every benchmark reports: a table for people, ``--json`` for machines.

A row is {"name", "value", "unit", "target", "holds"}. ``value`` is ``None`` where a peer is not
installed; ``target`` then gives the reason. ``holds`` is ``None`` where there is no target.
"""

from __future__ import annotations

import argparse
import json
import operator
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_COMPARE = {"<=": operator.le, ">=": operator.ge}


@dataclass(frozen=True, slots=True)
class Row:
    """One measured figure."""

    name: str
    value: float | None
    unit: str
    target: str | None
    holds: bool | None


def row(name: str, value: float, unit: str, target: str | None = None) -> Row:
    """A figure, held against ``target`` (``"<= 1.3"`` or ``">= 2000"``)."""
    if target is None:
        return Row(name, value, unit, None, None)
    sign, bound = target.split()
    return Row(name, value, unit, target, _COMPARE[sign](value, float(bound)))


def absent(name: str, unit: str, reason: str) -> Row:
    """A peer that is not installed."""
    return Row(name, None, unit, reason, None)


def parser(description: str | None) -> argparse.ArgumentParser:
    """The flags that every benchmark has."""
    flags = argparse.ArgumentParser(description=description)
    flags.add_argument("--json", action="store_true", help="print one JSON list instead of a table")
    return flags


def report(title: str, rows: Iterable[Row], *, as_json: bool) -> None:
    """Print the rows on stdout."""
    rows = list(rows)
    if as_json:
        json.dump([asdict(each) for each in rows], sys.stdout)
        print()
        return
    width = max((len(each.name) for each in rows), default=0)
    print(f"\n{title}")
    for each in rows:
        verdict = {None: "", True: "holds", False: "DOES NOT HOLD"}[each.holds]
        cells = (f"{each.name:<{width}}", _figure(each.value), f"{each.unit:<8}")
        print("  ".join(["", *cells, f"{each.target or '':<12}", verdict]).rstrip())


def _figure(value: float | None) -> str:
    text = "-" if value is None else f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
    return f"{text:>10}"
