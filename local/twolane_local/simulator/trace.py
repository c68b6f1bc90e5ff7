"""A run for people: the schedule, what happened to what went wrong, and how to see it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.simulator.facts import Fact
    from twolane_local.simulator.play import Outcome

_HIDDEN = frozenset({"body", "trace"})


def lines(outcome: Outcome, start: float, *, everything: bool = False) -> Iterator[str]:
    """A readable account; without ``everything``, of the violations' subjects and the faults."""
    schedule = outcome.schedule
    yield f"seed {schedule.seed}"
    for step in schedule.steps:
        yield f"  {step.at:8.2f} s  {step.action} {_values(step.about)}"
    for armed in schedule.faults:
        fault = armed.fault
        yield (
            f"  {armed.at:8.2f} s  ! {fault.name} count={fault.count} skip={fault.skip} "
            f"chance={fault.chance} {_values(fault.parameters)}"
        )
    subjects = {each.subject for each in outcome.violations}
    for fact in outcome.history:
        if everything or fact.kind == "fault.injected" or _about(fact, subjects):
            yield line(fact, start)
    for each in outcome.violations:
        yield f"! {each}"
    if not outcome.violations:
        yield "all invariants hold"
    yield f"digest {outcome.digest}"


def _about(fact: Fact, subjects: set[str]) -> bool:
    texts = (fact.task, fact.message, str(fact.data.get("key", "")))
    return any(text and any(text in subject for subject in subjects) for text in texts)


def line(fact: Fact, start: float) -> str:
    """One step, at its seconds since the start."""
    names = " ".join(name[:8] for name in (fact.task, fact.message) if name is not None)
    where = f" [{fact.where}]" if fact.where else ""
    return (
        f"  {fact.at - start:8.2f} s  {fact.kind:22}{where} {names} {_values(fact.data)}".rstrip()
    )


def _values(values: object) -> str:
    if not isinstance(values, dict) and not hasattr(values, "items"):
        return str(values)
    return " ".join(
        f"{name}={str(value)[:80]}"
        for name, value in values.items()
        if name not in _HIDDEN and value is not None
    )
