"""Faults that are armed: each counts, draws from its own seed, and journals that it happened."""

from __future__ import annotations

import random
from dataclasses import fields
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from twolane_local.faults.catalogue import CATALOGUE
from twolane_local.faults.kinds import Fault, FaultError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from twolane_local.clock import Clock
    from twolane_local.journal import Journal

_NOTHING: Mapping[str, str] = {}
_COMMON = {field.name for field in fields(Fault)} - {"name", "parameters"}


class Injector:
    """One armed fault. ``occasions`` were met, on ``fired`` of them it happened."""

    def __init__(self, identity: str, fault: Fault) -> None:
        self.id, self.fault = identity, fault
        self.kind = CATALOGUE[fault.name]
        self.occasions = self.fired = 0
        # A seed of its own, so that arming one more fault does not change the others.
        self._rng = random.Random(f"{fault.name} {fault.seed}")  # noqa: S311 - no secret
        self._began: float | None = None

    @property
    def spent(self) -> bool:
        """Whether it has happened as often as it shall."""
        return bool(self.fault.count) and self.fired >= self.fault.count

    def meets(self, target: str, now: float) -> bool:
        """Whether it happens on this occasion; counted either way."""
        if self.spent or not fnmatchcase(target, self.fault.target):
            return False
        self.occasions += 1
        if self.occasions <= self.fault.skip:
            return False
        if self._began is None:
            self._began = now
        if self.fault.for_s and now - self._began > self.fault.for_s:
            return False
        return self.fault.chance >= 1 or self._rng.random() < self.fault.chance

    def value(self, name: str) -> Any:
        """A parameter of its own, or its default."""
        for parameter in self.kind.own:
            if parameter.name == name:
                return self.fault.parameters.get(name, parameter.default)
        raise KeyError(name)

    def draw(self) -> random.Random:
        """For what a fault has to choose."""
        return self._rng

    def as_dict(self) -> dict[str, Any]:
        """As JSON values, for whoever shows it."""
        common = {name: getattr(self.fault, name) for name in sorted(_COMMON - {"seed"})}
        return {
            "id": self.id,
            "name": self.fault.name,
            "seed": self.fault.seed,
            "parameters": {**self.fault.parameters, **common},
            "fired": self.fired,
        }


class Faults:
    """All that are armed. Seams ask ``at(point, target)`` which ones happen now."""

    def __init__(
        self, journal: Journal, clock: Clock, unmounted: Mapping[str, str] = _NOTHING
    ) -> None:
        """``unmounted`` are the points that nobody asks here, each with where it is asked."""
        #: Where each that happens is told.
        self.journal = journal
        self._clock, self._unmounted = clock, unmounted
        self._armed: list[Injector] = []
        self._points: dict[str, list[Injector]] = {}
        self._count = 0

    def arm(self, fault: Fault) -> Injector:
        """Have it happen. Raises ``FaultError`` for an unknown name or parameter."""
        kind = CATALOGUE.get(fault.name)
        if kind is None:
            raise FaultError(
                f"there is no fault named {fault.name!r}; there are: {', '.join(CATALOGUE)}"
            )
        unknown = fault.parameters.keys() - {parameter.name for parameter in kind.own}
        if unknown:
            raise FaultError(
                f"{fault.name} has no parameter {', '.join(sorted(unknown))}; it has: "
                f"{', '.join(parameter.name for parameter in kind.parameters)}"
            )
        if kind.point in self._unmounted:
            raise FaultError(
                f"{fault.name} cannot happen here; it can with {self._unmounted[kind.point]}"
            )
        self._count += 1
        injector = Injector(str(self._count), fault)
        self._armed.append(injector)
        self._points.setdefault(kind.point, []).append(injector)
        return injector

    def inject(self, name: str, *, seed: int = 0, **parameters: Any) -> str:
        """Arm one by name, common and own parameters mixed; gives its id."""
        common = {key: parameters.pop(key) for key in _COMMON & parameters.keys()}
        return self.arm(Fault(name, seed=seed, parameters=parameters, **common)).id

    def any_at(self, *points: str) -> bool:
        """Whether anything is armed for one of these points."""
        return any(self._points.get(point) for point in points)

    def at(self, point: str, target: str = "", **about: Any) -> Iterable[Injector]:
        """Those that happen here and now; ``about`` goes into the journal with each."""
        armed = self._points.get(point)
        if not armed:
            return ()
        now = self._clock.time()
        return [self._fire(each, target, about) for each in armed if each.meets(target, now)]

    def _fire(self, injector: Injector, target: str, about: dict[str, Any]) -> Injector:
        injector.fired += 1
        fault = injector.fault
        self.journal.record(
            "fault.injected", name=fault.name, seed=fault.seed, id=injector.id, target=target,
            occasion=injector.occasions, **about,
        )  # fmt: skip
        return injector

    def active(self) -> list[dict[str, Any]]:
        """What is armed, as JSON values: id, name, seed, parameters, fired."""
        return [injector.as_dict() for injector in self._armed]

    def clear(self, identity: str | None = None) -> int:
        """Disarm one, or all; tells how many."""
        gone = [each for each in self._armed if identity in (None, each.id)]
        for injector in gone:
            self._armed.remove(injector)
            self._points[injector.kind.point].remove(injector)
        return len(gone)

    def fired(self, name: str) -> int:
        """How often faults of this name happened that are still armed."""
        return sum(each.fired for each in self._armed if each.fault.name == name)
