"""A message's outcome, as Celery says it on its channel, which is the record's run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery.worker.request import Request

from twolane import WorkerHandler
from twolane.worker.records import Outcome, Record, Run

from .conftest import RecordedQueues, body, event, make_app, record

if TYPE_CHECKING:
    from twolane.state.memory import MemoryStore


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


class Silent(Request):
    """A request class of an application's own, which forgets to acknowledge."""

    def acknowledge(self) -> None:
        """Do nothing."""


def test_a_message_that_nobody_settled_is_not_safe(
    store: MemoryStore, queues: RecordedQueues
) -> None:
    app = make_app()

    @app.task(name="silent", shared=False, Request=Silent)
    def silent() -> None:
        """Nothing to do."""

    handler = WorkerHandler(app, store=store, queues=queues)
    answer = handler(event(record(body("silent", task_id="t1"), "m1")))
    assert answer == {"batchItemFailures": [{"itemIdentifier": "m1"}]}
