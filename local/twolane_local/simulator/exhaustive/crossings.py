"""The points of a run in their order, and the strikes at some of them.

Each seam asks whether something goes wrong there; that question is a *crossing*. So what a run can
suffer is read off the run itself: new code that calls the store, or a new seam, has its points
without being named. A run is the same each time up to the first strike, and so a crossing's number
says where in it something happens; what comes after a strike is read off the run that had it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.faults.injection import Faults, Injector
from twolane_local.simulator.exhaustive.kinds import OUTAGE, OUTAGE_S, kinds_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from twolane_local.clock import Clock
    from twolane_local.journal import Journal


@dataclass(frozen=True, slots=True)
class Crossing:
    """One point of a run: its number, the seam, and the call, queue or function."""

    number: int
    point: str
    target: str
    kinds: tuple[str, ...]


class Crossings(Faults):
    """In the place of armed faults: ``strikes`` has a kind for the numbers of some crossings.

    ``where()`` names the environment that the crossing is in, if it is in one.
    """

    def __init__(
        self,
        journal: Journal,
        clock: Clock,
        strikes: Mapping[int, str],
        where: Callable[[], str | None] = lambda: None,
    ) -> None:
        super().__init__(journal, clock)
        self.passed: list[Crossing] = []
        self.struck: list[int] = []
        self.where = where
        self._strikes = strikes
        self._down_until = float("-inf")

    def any_at(self, *points: str) -> bool:  # noqa: ARG002 - each is a crossing
        """Always: each is asked."""
        return True

    def at(self, point: str, target: str = "", **_: Any) -> Iterable[Injector]:
        """What strikes here and now."""
        if point == "store" and self._clock.time() < self._down_until:
            return [self._strike(point, target, OUTAGE, -1)]
        kinds = kinds_at(point, target)
        if not kinds:
            return ()
        number = len(self.passed)
        self.passed.append(Crossing(number, point, target, tuple(kinds)))
        kind = self._strikes.get(number)
        if kind is None or kind not in kinds:
            return ()
        self.struck.append(number)
        if kind == OUTAGE:
            self._down_until = self._clock.time() + OUTAGE_S
        return [self._strike(point, target, kind, number)]

    def _strike(self, point: str, target: str, kind: str, number: int) -> Injector:
        fault = kinds_at(point, target)[kind]
        self.journal.record(
            "fault.injected", function=self.where(), name=fault.name, strike=kind, point=point,
            target=target, occasion=number,
        )  # fmt: skip
        return Injector(str(number), fault)
