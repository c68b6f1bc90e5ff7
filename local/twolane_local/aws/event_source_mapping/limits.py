"""The limits of an SQS event source mapping: its parameters, and how it scales.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from twolane_local.model import QueueMappingSpec


#: Concurrent batches at first and at most, and how many more are allowed each minute.
FIRST, MOST = 5, 1_000
PER_MINUTE = 300.0
#: In provisioned mode a poller runs up to ten invocations at once; 1,000 more are added a minute.
POLLER_CONCURRENCY, PROVISIONED_PER_MINUTE = 10, 1_000.0
DEFAULT_POLLERS = (2, 200)
#: The number returns to ``FIRST`` after this time without a backlog; AWS does not document it.
QUIET_S = 60.0


class Scaling:
    """The number of batches allowed at once. All times are arguments, in seconds."""

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


BATCH_SIZE, FIFO_BATCH_SIZE = 10_000, 10
#: A larger batch size needs a batching window.
WITHOUT_WINDOW = 10
WINDOW_S = 300
CONCURRENCY = (2, 1_000)
MINIMUM_POLLERS, MAXIMUM_POLLERS = (2, 200), (2, 2_000)


class MappingError(LocalError):
    """AWS would not create this event source mapping; correct it in the template."""


def check(spec: QueueMappingSpec) -> None:
    """Raise ``MappingError`` for a mapping that AWS would refuse."""
    fifo = spec.queue_arn.endswith(".fifo")
    most = FIFO_BATCH_SIZE if fifo else BATCH_SIZE
    if not 1 <= spec.batch_size <= most:
        raise _refused(spec, f"BatchSize must be from 1 to {most}, not {spec.batch_size}")
    if fifo and spec.batching_window_s:
        raise _refused(spec, "MaximumBatchingWindowInSeconds is not supported for FIFO queues")
    if not 0 <= spec.batching_window_s <= WINDOW_S:
        raise _refused(spec, f"MaximumBatchingWindowInSeconds must be from 0 to {WINDOW_S}")
    if spec.batch_size > WITHOUT_WINDOW and spec.batching_window_s < 1:
        raise _refused(
            spec,
            f"a BatchSize above {WITHOUT_WINDOW} needs MaximumBatchingWindowInSeconds from 1 on",
        )
    _check_scaling(spec)


def _check_scaling(spec: QueueMappingSpec) -> None:
    numbers = {
        "MaximumConcurrency": (spec.maximum_concurrency, CONCURRENCY),
        "MinimumPollers": (spec.minimum_pollers, MINIMUM_POLLERS),
        "MaximumPollers": (spec.maximum_pollers, MAXIMUM_POLLERS),
    }
    for name, (number, (low, high)) in numbers.items():
        if number is not None and not low <= number <= high:
            raise _refused(spec, f"{name} must be from {low} to {high}")
    provisioned = spec.minimum_pollers is not None or spec.maximum_pollers is not None
    if provisioned and spec.maximum_concurrency is not None:
        raise _refused(spec, "MaximumConcurrency and provisioned mode exclude each other")
    low = spec.minimum_pollers or DEFAULT_POLLERS[0]
    if provisioned and low > (spec.maximum_pollers or DEFAULT_POLLERS[1]):
        raise _refused(spec, "MinimumPollers must not be above MaximumPollers")


def _refused(spec: QueueMappingSpec, reason: str) -> MappingError:
    return MappingError(f"The mapping of {spec.queue_arn} to {spec.function}: {reason}")
