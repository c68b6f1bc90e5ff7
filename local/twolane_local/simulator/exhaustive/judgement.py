"""What must hold of a primitive, beside the six invariants of every run.

====== ============================================================================================
C      What a publisher was promised comes to its end: the last task has the state and the value
       that it must have, each effect has happened, in order where there is one, and no other.
D      A task's effect happens twice only where the environment that did it first was struck after
       it and before its work was recorded: it died or stood still, or a call failed there.
G      Good work is not dead-lettered: two strikes do not use up a message's receives.
====== ============================================================================================

Where a strike makes a task itself fail (it raises, or stands still beyond its time limit), C asks
only that what was promised has ended, or that the failure is stored: a chord in another one's
header that fails leaves the other one's body without an outcome, as it does under ``celery
worker``, where a result raises its parents' error. Callbacks and errbacks get their ids as they are
published: a task that ends twice publishes two.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.simulator.invariants import TERMINAL, Violation, violations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.simulator.exhaustive.primitives import Primitive
    from twolane_local.simulator.facts import Fact, History

_TIME_LIMITS = frozenset({"SoftTimeLimitExceeded", "WorkerLostError"})

Results = dict[str, dict[str, Any] | None]


def judged(history: History, primitive: Primitive, results: Results) -> Iterator[Violation]:
    """All that does not hold."""
    raised = _raised(history, primitive)
    if raised and _failed(history):
        results = {}
    for each in violations(history):
        if each.invariant != "L" or not raised or each.subject in _with_message(history):
            yield each
    yield from _check_c(history, primitive, results, raised)
    yield from _check_d(history)
    for fact in history.of("dead.letter"):
        yield Violation(
            "G", fact.task or fact.message or "", "dead-lettered, though nothing is wrong"
        )


def _raised(history: History, primitive: Primitive) -> bool:
    """Whether a strike made a task fail: it raised there, or stood still beyond its time limit
    while nobody else had its work.
    """
    strikes = {fact.data.get("strike") for fact in history.of("fault.injected")}
    errors = {str(fact.data.get("error")) for fact in history.of("result.changed")}
    limited = primitive.limited or any(limit in error for limit in _TIME_LIMITS for error in errors)
    return "raises" in strikes or ("frozen" in strikes and limited)


def _failed(history: History) -> bool:
    return any(fact.data.get("status") == "FAILURE" for fact in history.of("result.changed"))


def _with_message(history: History) -> set[str | None]:
    return {each for fact in history.of("body.taken") for each in (fact.task, fact.message)}


def _check_c(
    history: History, primitive: Primitive, results: Results, raised: bool
) -> Iterator[Violation]:
    happened = [str(fact.data["what"]) for fact in history.of("effect.committed")]
    if not raised:
        for what in sorted({*happened} - {*primitive.effects} - _BESIDE):
            yield Violation("C", what, "nothing of the kind was to happen")
    if not results:
        return
    task, last = list(results.items())[-1]
    state = last["status"] if last else None
    if raised:
        if state not in TERMINAL:
            yield Violation("C", task, f"promised, and {state} at the end")
        return
    if state not in primitive.states:
        yield Violation("C", task, f"{state} at the end: {last and last['result']}")
        return
    if (state != primitive.states[0] and len(primitive.states) > 1) or state == "REVOKED":
        return
    if state == "SUCCESS" and primitive.value is not None and _value(last) != primitive.value:
        yield Violation("C", task, f"{_value(last)} and not {primitive.value}")
    yield from _happened(primitive, happened)


#: A header whose sibling fails may do its work or not.
_BESIDE = frozenset({"header"})


def _happened(primitive: Primitive, happened: list[str]) -> Iterator[Violation]:
    firsts = [happened.index(what) if what in happened else None for what in primitive.effects]
    for what, first in zip(primitive.effects, firsts, strict=True):
        if first is None:
            yield Violation("C", what, "never happened, although all went well")
    if (
        primitive.ordered
        and None not in firsts
        and firsts != sorted(firsts, key=lambda at: at or 0)
    ):
        yield Violation("C", primitive.name, f"in another order: {', '.join(happened)}")


def _value(last: Mapping[str, Any] | None) -> Any:
    value = last and last["result"]
    return json.loads(value) if isinstance(value, str) else value


def _check_d(history: History) -> Iterator[Violation]:
    before: dict[tuple[str, str | None], tuple[int, Fact]] = {}
    facts = list(history)
    for number, fact in enumerate(facts):
        if fact.kind != "effect.committed":
            continue
        what = str(fact.data["what"]), fact.task
        if what in before:
            since, first = before[what]
            if not any(_explains(each, first) for each in facts[since + 1 : number]):
                yield Violation(
                    "D", str(fact.task), f"{what[0]} happened again, and nothing explains it"
                )
        before[what] = number, fact


def _explains(fact: Fact, first: Fact) -> bool:
    return fact.kind == "fault.injected" and fact.where == first.where
