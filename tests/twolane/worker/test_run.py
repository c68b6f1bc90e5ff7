"""A message's outcome, as Celery says it on its channel, which is the record's run."""

from __future__ import annotations

import pytest

from twolane.worker.outcomes import Outcome
from twolane.worker.records import Record
from twolane.worker.run import Run


@pytest.fixture
def run() -> Run:
    return Run(Record("m1", "r1", "", ""))


def test_celery_s_first_word_counts(run: Run) -> None:
    run.basic_reject("m1", requeue=True)
    run.basic_ack("m1")
    assert run.outcome is Outcome.REQUEUED


def test_a_message_that_is_rejected_for_good_is_not_requeued(run: Run) -> None:
    run.basic_reject("m1")
    assert run.outcome is Outcome.REJECTED


@pytest.mark.parametrize("before", ["ack", "nothing"])
def test_the_worker_s_word_stands(run: Run, before: str) -> None:
    if before == "ack":
        run.basic_ack("m1")
    run.outcome = Outcome.DEFERRED
    run.basic_ack("m1")
    assert run.outcome is Outcome.DEFERRED


def test_several_at_once_are_not_acknowledged(run: Run) -> None:
    with pytest.raises(NotImplementedError, match="one by one"):
        run.basic_ack("m1", multiple=True)
