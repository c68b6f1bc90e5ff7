"""A schedule: what users do and what goes wrong, each at its time; drawn from a seed or written."""

from __future__ import annotations

import random
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from twolane_local.faults.injection import Fault, fault_of

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How long users are active, in seconds, and how long faults may begin.
LENGTH_S = 420.0
_WHO = ("anna@example.com", "flaky@simulator.example.com", "down@simulator.example.com",
        "bounce@simulator.example.com", "ben@example.com")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Step:
    """``notify``, ``defer``, ``campaign``, ``import`` or ``revoke``; seconds from the start."""

    at: float
    action: str
    about: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Armed:
    """From ``at`` seconds on, this can happen."""

    at: float
    fault: Fault


@dataclass(frozen=True, slots=True)
class Schedule:
    """All of one run: the seed also gives ids, latencies and jitter."""

    seed: int
    steps: tuple[Step, ...] = ()
    faults: tuple[Armed, ...] = ()
    length_s: float = LENGTH_S

    def as_dict(self) -> dict[str, Any]:
        """As JSON values; ``schedule_of`` reads them again."""
        return {
            "seed": self.seed,
            "length_s": self.length_s,
            "steps": [asdict(step) for step in self.steps],
            "faults": [{"at": each.at, "fault": each.fault.as_dict()} for each in self.faults],
        }

    def without_step(self, number: int) -> Schedule:
        """One step less, for shrinking."""
        return Schedule(
            self.seed, self.steps[:number] + self.steps[number + 1 :], self.faults, self.length_s
        )

    def without_fault(self, number: int) -> Schedule:
        """One fault less, for shrinking."""
        return Schedule(
            self.seed, self.steps, self.faults[:number] + self.faults[number + 1 :], self.length_s
        )


def schedule_of(value: Mapping[str, Any]) -> Schedule:
    """The schedule that ``Schedule.as_dict`` wrote."""
    return Schedule(
        value["seed"],
        tuple(Step(**step) for step in value["steps"]),
        tuple(Armed(each["at"], fault_of(each["fault"])) for each in value["faults"]),
        value["length_s"],
    )


def draw(seed: int) -> Schedule:
    """A schedule at random."""
    rng = random.Random(f"schedule {seed}")  # noqa: S311 - repeatable, no secret
    steps = sorted(
        (_step(rng) for _ in range(rng.randint(1, 6))), key=lambda step: (step.at, step.action)
    )
    faults = tuple(Armed(_time(rng), _fault(rng)) for _ in range(rng.choice((0, 1, 1, 2, 2, 3, 4))))
    return Schedule(seed, tuple(steps), faults)


def _time(rng: random.Random) -> float:
    # Often early, and often at the same moment: races need company.
    return rng.choice((0.0, 0.0, 1.0, 5.0, 60.0, 170.0, round(rng.uniform(0, LENGTH_S - 60), 1)))


def _step(rng: random.Random) -> Step:
    at = _time(rng)
    match rng.choice(("notify", "defer", "defer", "defer", "campaign", "import", "revoke")):
        case "notify":
            return Step(at, "notify", {"email": rng.choice(_WHO)})
        case "defer":
            delay = rng.choice((0, 0, 0, 0, 1, 30, 200, 1000))
            return Step(at, "defer", {"email": rng.choice(_WHO), "delay": delay})
        case "campaign":
            return Step(at, "campaign", {"emails": rng.choices(_WHO, k=rng.randint(1, 3))})
        case "import":
            return Step(at, "import", {"rows": rng.randint(1, 5)})
        case _:
            return Step(at + 2, "revoke", {"number": rng.randint(0, 3)})


def _fault(rng: random.Random) -> Fault:
    from twolane_local.faults.injection import CATALOGUE

    name = rng.choice(tuple(CATALOGUE))
    own: dict[str, Any] = {}
    if name.startswith("environment.frozen"):
        own["freeze_s"] = rng.choice((20.0, 100.0, 400.0, 700.0))
    if name == "clock.skewed":  # leases allow for clocks that are a second apart
        own["seconds"] = rng.choice((-0.9, -0.5, 0.5, 0.9))
    if name in {"queue.duplicate-delivery", "tick.late"}:
        own["after_s"] = rng.choice((0, 1, 10, 200))
    if name in {"task.slow", "store.slow"}:
        own["seconds"] = rng.choice((0.5, 2.0, 5.0, 20.0))
    return Fault(
        name,
        seed=rng.randrange(1 << 30),
        count=rng.choice((1, 1, 1, 2, 3, 8)),
        skip=rng.choice((0, 0, 0, 1, 2, 5)),
        chance=rng.choice((1.0, 1.0, 0.5)),
        parameters=own,
    )
