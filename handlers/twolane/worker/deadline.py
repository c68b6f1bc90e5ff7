"""The end of the invocation, and the time that is kept back before it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True, slots=True)
class Deadline:
    """Instants in monotonic seconds.

    A task that still runs at ``soft`` gets ``SoftTimeLimitExceeded``; at ``lost`` its worker counts
    as lost, which leaves ``reserve_s`` to record that and to answer the event source mapping before
    Lambda kills the environment. No task is started within three reserves of the end.
    """

    at: float
    reserve_s: float
    monotonic: Callable[[], float] = time.monotonic

    @property
    def soft(self) -> float:
        return self.at - 2 * self.reserve_s

    @property
    def lost(self) -> float:
        return self.at - self.reserve_s

    @property
    def remaining_s(self) -> float:
        return self.at - self.monotonic()

    @property
    def too_late_to_start(self) -> bool:
        return self.remaining_s < 3 * self.reserve_s


def deadline_of(context: Any, monotonic: Callable[[], float] = time.monotonic) -> Deadline | None:
    """The deadline of Lambda's context object; ``None`` for a direct call without one.

    https://docs.aws.amazon.com/lambda/latest/dg/python-context.html
    """
    remaining = getattr(context, "get_remaining_time_in_millis", None)
    if remaining is None:
        return None
    left_s = remaining() / 1000
    return Deadline(monotonic() + left_s, min(max(0.05 * left_s, 0.25), 5.0), monotonic)
