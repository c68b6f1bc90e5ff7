from __future__ import annotations

from typing import Any

import pytest

from twolane_local.cli.trace import bar, span_error, waterfall


def span(identifier: str, parent: str | None, start: float, end: float | None, **more: Any) -> Any:
    return {
        "id": identifier, "parent": parent, "kind": "attempt", "title": identifier,
        "start": start, "end": end, "state": "ok", "marks": [], "detail": {}, **more,
    }  # fmt: skip


def test_spans_are_indented_below_their_parents_on_one_time_line() -> None:
    trace = {
        "spans": [
            span("a", None, 100.0, 101.0, kind="request"),
            span("b", "a", 100.0, 100.25, state="retried"),
            span("c", "b", 100.5, 101.0, state="failed",
                 detail={"error": {"type": "ValueError", "message": "no\x1b good"}},
                 marks=[{"at": 100.75, "text": "visible again"}]),
            span("d", "a", 100.75, None, state="running"),
        ]
    }  # fmt: skip
    assert waterfall(trace, width=80) == [
        "     0 ms ████████████████████████ ← request a                             1.0 s",
        "     0 ms ██████··················   ↻ attempt b                          250 ms",
        "   500 ms ············████████████     ! attempt c                        500 ms",
        "                                         750 ms: visible again",
        "                                         ValueError: no\\x1b good",
        "   750 ms ··················█·····   → attempt d",
    ]


def test_nothing_is_said_twice() -> None:
    spans = [
        span("a", None, 0, 1, kind="dead-letter", title="dead letter on dead"),
        span("b", "a", 0, 1, title="attempt 1: failed", marks=[{"at": 1, "text": "failed"}]),
    ]
    first, second = waterfall({"spans": spans})
    assert "← dead letter on dead" in first
    assert "← attempt 1: failed" in second


def test_a_long_title_is_cut_and_no_line_is_too_long() -> None:
    trace = {"spans": [span("x" * 300, None, 0, 1), span("日" * 80, "x" * 300, 0, 1)]}
    lines = waterfall(trace, width=80)
    assert all("…" in line and line.endswith("1.0 s") for line in lines)


def test_a_trace_of_one_moment_is_drawn() -> None:
    assert waterfall({"spans": [span("a", None, 5, 5)]}) != []
    assert waterfall({"spans": []}) == []


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [(0, 1, "████"), (0, 0, "█···"), (1, 0, "···█"), (0.5, 0.5, "··██"), (0.9, 5, "···█")],
)
def test_a_bar_stays_on_the_line(start: float, length: float, expected: str) -> None:
    assert bar(start, length, width=4) == expected


@pytest.mark.parametrize(
    ("detail", "expected"),
    [({}, None), ({"error": "x"}, "x"), ({"errorType": "E"}, "E"), (None, None)],
)
def test_errors(detail: Any, expected: str | None) -> None:
    assert span_error({"detail": detail}) == expected
