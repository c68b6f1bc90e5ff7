from __future__ import annotations

import argparse

import pytest

from twolane_local.cli.flags import duration, since_flag


@pytest.mark.parametrize(
    ("text", "expected"), [("90s", 90), ("15m", 900), ("1.5h", 5400), ("2d", 172_800)]
)
def test_spans(text: str, expected: float) -> None:
    assert duration(text) == expected


@pytest.mark.parametrize("text", ["", "15", "m", "-1h", "1w"])
def test_what_is_no_span_is_said(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="such as 90s"):
        duration(text)


def test_the_flag() -> None:
    parser = argparse.ArgumentParser()
    since_flag(parser)
    assert parser.parse_args([]).since is None
    assert parser.parse_args(["--since", "2m"]).since == 120
