from __future__ import annotations

import pytest

from twolane_local.aws.event_source_mapping import MappingError, check
from twolane_local.model import QueueMappingSpec

STANDARD = "arn:aws:sqs:us-east-1:123456789012:q"
FIFO = f"{STANDARD}.fifo"


@pytest.mark.parametrize(
    ("arn", "spec"),
    [
        (STANDARD, {"batch_size": 1}),
        (STANDARD, {"batch_size": 10_000, "batching_window_s": 1}),
        (STANDARD, {"batching_window_s": 300}),
        (STANDARD, {"maximum_concurrency": 2}),
        (STANDARD, {"maximum_concurrency": 1_000}),
        (FIFO, {"batch_size": 10}),
        (STANDARD, {"minimum_pollers": 2, "maximum_pollers": 10_000}),
        (STANDARD, {"minimum_pollers": 200}),
    ],
)
def test_what_aws_creates(arn, spec):
    check(QueueMappingSpec("f", arn, **spec))


@pytest.mark.parametrize(
    ("arn", "spec", "reason"),
    [
        (STANDARD, {"batch_size": 0}, r"between 1 and 10000 inclusive \(BatchSize is 0\)"),
        (STANDARD, {"batch_size": 10_001, "batching_window_s": 1}, "BatchSize is 10001"),
        (STANDARD, {"batch_size": 11}, "batch window in seconds must be greater than 0"),
        (STANDARD, {"batching_window_s": 301}, "from 0 to 300"),
        (STANDARD, {"maximum_concurrency": 1}, "from 2 to 1000"),
        (STANDARD, {"maximum_concurrency": 1_001}, "from 2 to 1000"),
        (STANDARD, {"minimum_pollers": 1}, "from 2 to 200"),
        (STANDARD, {"maximum_pollers": 10_001}, "from 2 to 10000"),
        (STANDARD, {"minimum_pollers": 9, "maximum_pollers": 8}, "must not be above"),
        (STANDARD, {"minimum_pollers": 2, "maximum_concurrency": 2}, "exclude each other"),
        (FIFO, {"batch_size": 11}, "between 1 and 10 inclusive"),
        (FIFO, {"batching_window_s": 1}, "not supported for FIFO"),
    ],
)
def test_what_aws_refuses(arn, spec, reason):
    with pytest.raises(MappingError, match=reason):
        check(QueueMappingSpec("f", arn, **spec))
