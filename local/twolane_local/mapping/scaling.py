"""How many batches one mapping has under way at once, as Lambda scales it.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html: five batches at first, up
to 300 more each minute while messages are waiting, 1,000 at most; fewer while invocations fail.
Lambda does not say by how much it backs off; here each failure halves the number and each success
gives a step back.
"""

from __future__ import annotations

FIRST, MOST = 5, 1_000
PER_MINUTE = 300.0
#: How long without a backlog until the number is back at the first; AWS does not document it.
QUIET_S = 60.0


class Scaling:
    """The number of batches allowed at once. All times are given, in seconds."""

    def __init__(self, maximum: int | None, now: float) -> None:
        self.maximum = maximum if maximum is not None else MOST
        self._allowed = float(min(FIRST, self.maximum))
        self._busy_since: float | None = None
        self._busy_at = now

    @property
    def allowed(self) -> int:
        return max(1, int(self._allowed))

    def backlog(self, now: float) -> None:
        """Every batch is taken, and messages are waiting."""
        if self._busy_since is None:
            self._busy_since = now
        grown = (now - self._busy_since) * PER_MINUTE / 60
        if grown > 0:
            self._allowed = min(float(self.maximum), self._allowed + grown)
            self._busy_since = now
        self._busy_at = now

    def idle(self, now: float) -> None:
        """No message is waiting."""
        self._busy_since = None
        if now - self._busy_at >= QUIET_S:
            self._allowed = min(self._allowed, float(FIRST))

    def failed(self) -> None:
        self._allowed = max(1.0, self._allowed / 2)

    def succeeded(self) -> None:
        if self._allowed < min(FIRST, self.maximum):
            self._allowed += 1
