"""How many batches one mapping has under way at once, as Lambda scales it.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html: five batches at first, up
to 300 more each minute while messages are waiting, 1,000 at most; fewer while invocations fail.
Lambda does not say by how much it backs off; here each failure halves the number and each success
gives a step back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from twolane_local.model import QueueMappingSpec

FIRST, MOST = 5, 1_000
PER_MINUTE = 300.0
#: Provisioned mode: a poller has up to ten invocations at once, and up to 1,000 more come a minute.
POLLER_CONCURRENCY, PROVISIONED_PER_MINUTE = 10, 1_000.0
DEFAULT_POLLERS = (2, 200)
#: How long without a backlog until the number is back at the first; AWS does not document it.
QUIET_S = 60.0


class Scaling:
    """The number of batches allowed at once. All times are given, in seconds."""

    def __init__(self, spec: QueueMappingSpec, now: float) -> None:
        self.per_minute = PER_MINUTE
        low, high = FIRST, MOST
        if spec.minimum_pollers is not None or spec.maximum_pollers is not None:
            pollers = (
                spec.minimum_pollers or DEFAULT_POLLERS[0],
                spec.maximum_pollers or DEFAULT_POLLERS[1],
            )
            low, high = (number * POLLER_CONCURRENCY for number in pollers)
            self.per_minute = PROVISIONED_PER_MINUTE
        if spec.maximum_concurrency is not None:
            high = spec.maximum_concurrency
        self.first, self.most = min(low, high), high
        self._allowed = float(self.first)
        self._busy_since: float | None = None
        self._busy_at = now

    @property
    def allowed(self) -> int:
        return max(1, int(self._allowed))

    def backlog(self, now: float) -> None:
        """Every batch is taken, and messages are waiting."""
        if self._busy_since is None:
            self._busy_since = now
        grown = (now - self._busy_since) * self.per_minute / 60
        if grown > 0:
            self._allowed = min(float(self.most), self._allowed + grown)
            self._busy_since = now
        self._busy_at = now

    def idle(self, now: float) -> None:
        """No message is waiting."""
        self._busy_since = None
        if now - self._busy_at >= QUIET_S:
            self._allowed = min(self._allowed, float(self.first))

    def failed(self) -> None:
        self._allowed = max(1.0, self._allowed / 2)

    def succeeded(self) -> None:
        if self._allowed < self.first:
            self._allowed += 1
