"""``--since 90s | 15m | 6h | 2d``: how far back."""

from __future__ import annotations

import argparse
import re

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def since_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--since",
        type=duration,
        metavar="SPAN",
        help="how far back: 90s, 15m, 6h, 2d (of a stack's logs: 1h)",
    )


def duration(text: str) -> float:
    """Seconds."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not a span such as 90s, 15m, 6h or 2d")
    return float(found[1]) * _UNITS[found[2]]


def window(options: argparse.Namespace) -> float | None:
    """In seconds, or ``None`` where the flag was not given."""
    given: float | None = options.since
    return given
