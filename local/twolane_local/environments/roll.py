"""The roll of a function's execution environments: each with its state and what it has done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from twolane_local.environments import EnvironmentState

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.environments import Environment

COLD, BUSY, FROZEN = "cold", "busy", "frozen"


@dataclass(slots=True)
class _Line:
    id: str
    since: float
    state: str = COLD
    invocations: int = 0
    request: str = ""
    former: str = ""


class Roll:
    """Kept by a pool, which tells it of each change; ``now`` is a time in seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._lines: dict[Environment, _Line] = {}
        self._entered = 0

    def enters(self, environment: Environment) -> None:
        """Its init phase begins."""
        self._entered += 1
        self._lines[environment] = _Line(str(self._entered), self._now())

    def begins(self, environment: Environment, request_id: str) -> None:
        """It has an invocation."""
        line = self._lines[environment]
        line.since, line.state = self._now(), BUSY
        line.invocations += 1
        line.former, line.request = line.request, request_id

    def rests(self, environment: Environment) -> None:
        """It is free, and nothing waits for it."""
        line = self._lines[environment]
        line.since, line.state = self._now(), FROZEN

    def leaves(self, environment: Environment) -> None:
        """It will take no work again."""
        self._lines.pop(environment, None)

    def states(self) -> tuple[EnvironmentState, ...]:
        """As they are now, the oldest first."""
        now = self._now()
        return tuple(
            EnvironmentState(
                line.id, line.state, now - line.since, line.invocations,
                tuple(each for each in (line.request, line.former) if each),
            )
            for line in self._lines.values()
        )  # fmt: skip
