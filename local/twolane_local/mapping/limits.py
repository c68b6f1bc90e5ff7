"""What Lambda refuses when an SQS event source mapping is created.

https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-parameters.html
https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from twolane_local.model import QueueMappingSpec

BATCH_SIZE, FIFO_BATCH_SIZE = 10_000, 10
#: Above this batch size there must be a batching window.
WITHOUT_WINDOW = 10
WINDOW_S = 300
CONCURRENCY = (2, 1_000)


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
    low, high = CONCURRENCY
    if spec.maximum_concurrency is not None and not low <= spec.maximum_concurrency <= high:
        raise _refused(spec, f"MaximumConcurrency must be from {low} to {high}")


def _refused(spec: QueueMappingSpec, reason: str) -> MappingError:
    return MappingError(f"The mapping of {spec.queue_arn} to {spec.function}: {reason}")
