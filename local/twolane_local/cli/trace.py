"""``twolane trace ID``"""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Any

from twolane_local.cli import exits
from twolane_local.cli.flags import since_flag, window
from twolane_local.cli.text import (
    columns,
    error_text,
    milliseconds,
    one_line,
    progress,
    red,
    say,
    say_json,
)
from twolane_local.errors import LocalError
from twolane_local.remote import open_source

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence


_SIGNS = {"ok": "←", "failed": "!", "retried": "↻", "running": "→", "waiting": "…"}
_BAR = 24


def waterfall(trace: Mapping[str, Any], *, width: int = 100) -> list[str]:
    """One line a span, indented below the span that it comes from; ``trace`` is ``GET trace``'s.

    A line is: when it began after the first, a bar on the common time line, the sign of how it
    ended (``←`` well, ``!`` failed, ``↻`` again, ``→`` runs, ``…`` waits), title, and how long.
    """
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
            if mark["text"] not in span["title"]  # `attempt 2: retried` says so itself
        ]
        if (error := error_of(span)) is not None:
            lines.append(_note(error, depth, width))
    return lines


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
    """``message on tasks``; most titles say the kind themselves."""
    kind, title = str(span["kind"]), str(span["title"])
    return title if title.startswith(kind.replace("-", " ")) else f"{kind} {title}"


def bar(start: float, length: float, *, width: int = _BAR) -> str:
    """Where on the time line a span lies, both as parts of the whole; never less than one mark."""
    first = min(width - 1, int(start * width))
    count = max(1, min(width - first, round(length * width)))
    return "·" * first + "█" * count + "·" * (width - first - count)


def _note(text: str, depth: int, width: int) -> str:
    indent = " " * (9 + 1 + _BAR + 1 + 2 * depth + 2)
    return indent + one_line(text, max(20, width - len(indent)))


def error_of(span: Mapping[str, Any]) -> str | None:
    """``ValueError: …``, of a span that has one."""
    detail = span.get("detail") or {}
    return error_text(detail.get("error") or detail.get("errorType")) or None


FLAGS = ("source",)
EXAMPLES = (
    "twolane trace 5f0c1c1e",
    "twolane trace 5f0c1c1e-6f6f-4d0e-9a55-0b9c8a3d2e11 --stack shop --since 1d",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Its own flags."""
    parser.add_argument(
        "id", metavar="ID", help="of a request, task or message; 8 characters of it will do here"
    )
    since_flag(parser)


def run(options: argparse.Namespace) -> int:
    """The waterfall, and why it does not move where it does not; 1 where nothing has that id."""
    if len(options.id) < 8:
        raise LocalError(f"{options.id!r} is too short to be the beginning of an id: 8 characters")
    source = open_source(options, back_s=window(options))
    with progress(f"looking for {options.id}"):
        trace = source.trace(options.id)
        reasons = source.why(options.id) if trace is not None else []
    if trace is None:
        say(f"nothing has the id {options.id} in {source.where}", sys.stderr)
        return exits.NO
    if options.json:
        say_json(trace)
        return exits.DONE
    width = shutil.get_terminal_size((100, 24)).columns
    first = min((span["start"] for span in trace["spans"]), default=0.0)
    last = max((span["end"] or span["start"] for span in trace["spans"]), default=0.0)
    say(f"{trace['id']}, {len(trace['spans'])} steps, {milliseconds((last - first) * 1000)}")
    for line in waterfall(trace, width=width):
        say(red(line, sys.stdout) if " ! " in line else line)
    for reason in reasons:
        say(f"why: {reason}")
    return exits.DONE
