"""What became of a message, as Celery says it on the channel."""

from __future__ import annotations

import pytest

from twolane.worker.consumer import Channel
from twolane.worker.outcomes import Outcome


def test_a_message_that_nobody_settled_is_not_safe() -> None:
    assert Channel().take("m1") is Outcome.BROKEN


def test_what_celery_says_first_stands_and_is_told_once() -> None:
    channel = Channel()
    channel.basic_reject("m1", requeue=True)
    channel.basic_ack("m1")
    assert (channel.take("m1"), channel.take("m1")) == (Outcome.REQUEUED, Outcome.BROKEN)


@pytest.mark.parametrize("before", ["ack", "nothing"])
def test_what_the_worker_decides_stands(before: str) -> None:
    channel = Channel()
    if before == "ack":
        channel.basic_ack("m1")
    channel.mark("m1", Outcome.DEFERRED)
    channel.basic_ack("m1")
    assert channel.take("m1") is Outcome.DEFERRED


def test_several_at_once_are_not_acknowledged() -> None:
    with pytest.raises(NotImplementedError, match="one by one"):
        Channel().basic_ack("m1", multiple=True)
