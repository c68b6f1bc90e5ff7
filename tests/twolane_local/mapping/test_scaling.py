"""https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html"""

from __future__ import annotations

from twolane_local.mapping.scaling import Scaling


def test_five_batches_at_first_and_up_to_300_more_a_minute():
    scaling = Scaling(None, 0.0)
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
    scaling = Scaling(2, 0.0)
    assert scaling.allowed == 2
    scaling.backlog(0.0)
    scaling.backlog(60.0)
    assert scaling.allowed == 2
    many = Scaling(20, 0.0)
    many.backlog(0.0)
    many.backlog(60.0)
    assert many.allowed == 20


def test_time_without_a_backlog_does_not_count():
    scaling = Scaling(None, 0.0)
    scaling.backlog(0.0)
    scaling.idle(1.0)
    scaling.backlog(50.0)
    assert scaling.allowed == 5


def test_it_scales_back_once_traffic_is_low():
    scaling = Scaling(None, 0.0)
    scaling.backlog(0.0)
    scaling.backlog(60.0)
    scaling.idle(61.0)
    assert scaling.allowed == 305
    scaling.idle(120.0)
    assert scaling.allowed == 5


def test_failures_back_off_and_successes_recover():
    scaling = Scaling(None, 0.0)
    for _ in range(10):
        scaling.failed()
    assert scaling.allowed == 1
    for _ in range(10):
        scaling.succeeded()
    assert scaling.allowed == 5
