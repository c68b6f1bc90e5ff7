"""https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"""

from __future__ import annotations

from twolane_local.aws.event_source_mapping import Scaling
from twolane_local.model import QueueMappingSpec


def scaling_of(**spec):
    return Scaling(QueueMappingSpec("f", "arn:aws:sqs:us-east-1:123456789012:q", **spec), 0.0)


def test_five_batches_at_first_and_up_to_300_more_a_minute():
    scaling = scaling_of()
    assert scaling.allowed == 5
    scaling.backlog(0.0)
    assert scaling.allowed == 5
    scaling.backlog(30.0)
    assert scaling.allowed == 155
    scaling.backlog(60.0)
    assert scaling.allowed == 305
    scaling.backlog(600.0)
    assert scaling.allowed == 1_000


def test_the_maximum_concurrency_bounds_it():
    scaling = scaling_of(maximum_concurrency=2)
    assert scaling.allowed == 2
    scaling.backlog(0.0)
    scaling.backlog(60.0)
    assert scaling.allowed == 2
    many = scaling_of(maximum_concurrency=20)
    many.backlog(0.0)
    many.backlog(60.0)
    assert many.allowed == 20


def test_time_without_a_backlog_does_not_count():
    scaling = scaling_of()
    scaling.backlog(0.0)
    scaling.idle(1.0)
    scaling.backlog(50.0)
    assert scaling.allowed == 5


def test_it_scales_back_once_traffic_is_low():
    scaling = scaling_of()
    scaling.backlog(0.0)
    scaling.backlog(60.0)
    scaling.idle(61.0)
    assert scaling.allowed == 305
    scaling.idle(120.0)
    assert scaling.allowed == 5


def test_failures_back_off_and_successes_recover():
    scaling = scaling_of()
    for _ in range(10):
        scaling.failed()
    assert scaling.allowed == 1
    for _ in range(10):
        scaling.succeeded()
    assert scaling.allowed == 5


def test_provisioned_pollers_have_ten_invocations_each_and_scale_faster():
    scaling = scaling_of(minimum_pollers=3, maximum_pollers=50)
    assert scaling.allowed == 30
    scaling.backlog(0.0)
    scaling.backlog(6.0)
    assert scaling.allowed == 130
    scaling.backlog(600.0)
    assert scaling.allowed == 500
    scaling.idle(700.0)
    assert scaling.allowed == 30
    assert scaling_of(maximum_pollers=2).allowed == 20
