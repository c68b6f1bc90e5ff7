"""``twolane trace ID``"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

from twolane_local.cli import exits
from twolane_local.cli.flags import since_flag
from twolane_local.cli.text import (
    columns,
    error_text,
    milliseconds,
    one_line,
    print_json,
    progress,
    red,
)
from twolane_local.errors import LocalError
from twolane_local.journal.lines import printable
from twolane_local.journal.tracebacks import fold
from twolane_local.remote import source_for

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence


_SIGNS = {"ok": "←", "failed": "!", "retried": "↻", "running": "→", "waiting": "…"}
_BAR = 24


def waterfall(trace: Mapping[str, Any], *, width: int = 100, verbose: bool = False) -> list[str]:
    """Return one line a span, indented below its parent: its start after the first span, a bar on
    the common time line, a sign (``←`` ended well, ``!`` failed, ``↻`` retried, ``→`` runs, ``…``
    waits), title and duration. A failure's traceback is below its span, once: the frames of
    frameworks are folded, unless ``verbose``. ``trace`` is the answer of ``GET trace``.
    """
    shown: set[str] = set()
    spans: Sequence[Mapping[str, Any]] = trace["spans"]
    begin = min((span["start"] for span in spans), default=0.0)
    end = max((span["end"] or span["start"] for span in spans), default=0.0)
    depths: dict[Any, int] = {}
    lines = []
    for span in spans:
        depth = depths[span["id"]] = depths.get(span.get("parent"), -1) + 1
        lines.append(_line(span, depth, begin, max(end - begin, 1e-9), width))
        lines += [
            _note(f"{milliseconds((mark['at'] - begin) * 1000)}: {mark['text']}", depth, width)
            for mark in span.get("marks", ())
            if mark["text"] not in span["title"]  # like `attempt 2: retried`
        ]
        if (error := span_error(span)) is not None:
            lines.append(_note(error, depth, width))
            lines += _traceback(span, verbose, shown)
    return lines


def _traceback(span: Mapping[str, Any], verbose: bool, shown: set[str]) -> list[str]:
    error = (span.get("detail") or {}).get("error")
    text = str(error.get("traceback") or "") if isinstance(error, dict) else ""
    if not text or text in shown:
        return []
    shown.add(text)
    return [f"  {printable(line)}".rstrip() for line in
            (text if verbose else fold(text)).rstrip().split("\n")]  # fmt: skip


def _line(span: Mapping[str, Any], depth: int, begin: float, whole: float, width: int) -> str:
    start = span["start"] - begin
    length = None if span["end"] is None else span["end"] - span["start"]
    took = "" if length is None else milliseconds(length * 1000)
    left = f"{milliseconds(start * 1000):>9} {bar(start / whole, (length or 0) / whole)} "
    sign = _SIGNS.get(span["state"], "·")
    room = max(20, width - columns(left) - 12 - 2 * depth)
    title = one_line(_title(span), room)
    middle = f"{'  ' * depth}{sign} {title}"
    space = max(1, width - columns(left) - columns(middle) - 9)
    return f"{left}{middle}{' ' * space}{took:>9}".rstrip()


def _title(span: Mapping[str, Any]) -> str:
    """Return the title with its kind before it, unless it begins with that."""
    kind, title = str(span["kind"]), str(span["title"])
    return title if title.startswith(kind.replace("-", " ")) else f"{kind} {title}"


def bar(start: float, length: float, *, width: int = _BAR) -> str:
    """Return a time line with a span, given in parts of the whole; it has at least one mark."""
    first = min(width - 1, int(start * width))
    count = max(1, min(width - first, round(length * width)))
    return "·" * first + "█" * count + "·" * (width - first - count)


def _note(text: str, depth: int, width: int) -> str:
    indent = " " * (9 + 1 + _BAR + 1 + 2 * depth + 2)
    return indent + one_line(text, max(20, width - len(indent)))


def span_error(span: Mapping[str, Any]) -> str | None:
    """Return ``ValueError: …``, or ``None`` if the span has no error."""
    detail = span.get("detail") or {}
    return error_text(detail.get("error") or detail.get("errorType")) or None


FLAGS = ("source",)
EXAMPLES = (
    "twolane trace 5f0c1c1e",
    "twolane trace 5f0c1c1e-6f6f-4d0e-9a55-0b9c8a3d2e11 --stack shop --since 1d",
)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "id", metavar="ID", help="id of a request, task or message, or its first 8 characters"
    )
    parser.add_argument("--verbose", action="store_true", help="whole tracebacks")
    since_flag(parser)


def run(options: argparse.Namespace) -> int:
    """Print the waterfall, and the reasons if it does not move; return 1 if the id is unknown."""
    if len(options.id) < 8:
        raise LocalError(f"{options.id!r} is too short: give at least 8 characters of the id")
    source = source_for(options, back_s=options.since)
    with progress(f"looking for {options.id}"):
        trace = source.trace(options.id)
        reasons = source.why(options.id) if trace is not None else []
    if trace is None:
        print(f"nothing has the id {options.id} in {source.where}", file=sys.stderr)
        return exits.NO
    if options.json:
        print_json(trace)
        return exits.DONE
    width = shutil.get_terminal_size((100, 24)).columns
    first = min((span["start"] for span in trace["spans"]), default=0.0)
    last = max((span["end"] or span["start"] for span in trace["spans"]), default=0.0)
    print(f"{trace['id']}, {len(trace['spans'])} steps, {milliseconds((last - first) * 1000)}")
    for line in waterfall(trace, width=width, verbose=options.verbose):
        print(red(line, sys.stdout) if " ! " in line else line)
    for reason in reasons:
        print(f"why: {reason}")
    return exits.DONE
