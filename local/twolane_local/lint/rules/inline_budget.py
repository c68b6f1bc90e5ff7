"""Work after the response is as quick as the inline lane wants it."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.journal import Event
    from twolane_local.lint.subject import Subject

_ENDED = frozenset({"inline.succeeded", "inline.failed"})
#: What no longer fitted in: put on a queue, or lost.
_CUT = frozenset({"inline.deferred", "inline.lost"})


def check(subject: Subject) -> Iterator[Found]:
    runs: dict[tuple[str, str], list[Event]] = defaultdict(list)
    for event in subject.journal:
        name = event.data.get("taskName")
        if event.kind in _ENDED | _CUT and name:
            runs[event.function or "", str(name)].append(event)
    for (function, name), events in sorted(runs.items()):
        budget = _budget_s(subject, function)
        message = _over(name, events, budget)
        if message is not None:
            yield Found(
                subject.names.get(function, function),
                message,
                f"make {name} a Celery task and call .delay(); `twolane advise` has the numbers",
                ("Timeout",),
            )


def _budget_s(subject: Subject, function: str) -> float:
    """What the rule allows, and never more than the function has: its reserve is kept.

    The reserve is ApiHandler's default: a second, at most a quarter of the timeout.
    """
    resource = subject.function_called(function)
    timeout = resource.number("Timeout", 3) if resource else None
    if timeout is None:
        return subject.inline_budget_s
    return min(subject.inline_budget_s, timeout - min(1.0, timeout / 4))


def _over(name: str, events: list[Event], budget_s: float) -> str | None:
    # Starlette's order makes tasks behind a failed one lost, too; that is not slowness.
    cut = [
        event
        for event in events
        if event.kind == "inline.deferred" or event.data.get("reason") == "timeout"
    ]
    if cut:
        return f"{name} did not fit into its invocation's time in {len(cut)} of {len(events)} runs"
    times = sorted(
        float(event.data["durationMs"]) / 1000
        for event in events
        if event.kind in _ENDED and event.data.get("durationMs") is not None
    )
    slow = [time for time in times if time > budget_s]
    # One run in twenty may be a cold connection.
    if not slow or len(slow) * 20 < len(times):
        return None
    return (
        f"{name} took longer than its inline budget of {budget_s:g} s in {len(slow)} of "
        f"{len(times)} runs, {times[-1]:.1f} s at most"
    )


RULE = Rule(
    "TL301",
    "slow-inline-work",
    Severity.WARNING,
    "Work in the inline lane ends within its budget, 2 s unless --inline-budget says otherwise.",
    "https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html",
    check,
    needs="journal",
)
