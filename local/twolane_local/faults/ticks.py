"""The seam between the scheduler and what it invokes: ticks that come twice, late or never."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.faults.injection import Faults
    from twolane_local.schedules.targets import Invocations


class FaultyTicks:
    """Implements ``Invocations`` around another one.

    ``later(seconds, call)`` is the event loop's ``call_later``.
    """

    def __init__(
        self,
        invocations: Invocations,
        faults: Faults,
        later: Callable[[float, Callable[[], object]], object],
    ) -> None:
        self._invocations, self._faults, self._later = invocations, faults, later

    async def publish(self, topic_arn: str, message: str) -> None:
        await self._invocations.publish(topic_arn, message)

    def submit(self, function: str, payload: bytes) -> str:
        name = function.partition(":")[0]
        happening = {each.fault.name: each for each in self._faults.at("tick", name)}
        if "tick.missed" in happening:
            return ""
        if "tick.doubled" in happening:
            self._invocations.submit(function, payload)
        late = happening.get("tick.late")
        if late is not None:
            submit = partial(self._invocations.submit, function, payload)
            self._later(float(late.value("after_s")), submit)
            return ""
        return self._invocations.submit(function, payload)
