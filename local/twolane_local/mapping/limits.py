"""What Lambda refuses when an SQS event source mapping is created.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html
https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html
https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.errors import LocalError
from twolane_local.mapping.scaling import DEFAULT_POLLERS

if TYPE_CHECKING:
    from twolane_local.model import QueueMappingSpec

BATCH_SIZE, FIFO_BATCH_SIZE = 10_000, 10
#: Above this batch size there must be a batching window.
WITHOUT_WINDOW = 10
WINDOW_S = 300
CONCURRENCY = (2, 1_000)
MINIMUM_POLLERS, MAXIMUM_POLLERS = (2, 200), (2, 2_000)


class MappingError(LocalError):
    """An event source mapping is not one that AWS would create; correct it in the template."""


def check(spec: QueueMappingSpec) -> None:
    """Raise ``MappingError`` for what AWS would refuse."""
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
