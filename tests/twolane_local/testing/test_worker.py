"""The worker's own waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from twolane import WorkerHandler
from twolane_local.testing.project import of_handlers
from twolane_local.virtual_clock import NEW_YEAR

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

    from twolane_local.testing.stack import Twolane

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture
def stack(make: Callable[..., Twolane], application: Any) -> Twolane:
    return make(of_handlers(worker=application.worker, timeout_s=100))


def slow(celery: Celery, **options: Any) -> str:
    return str(celery.send_task("small.slow", (50,), **options).id)


def test_a_soft_time_limit_interrupts_a_sleep(stack: Twolane, application: Any) -> None:
    identity = slow(application.celery, soft_time_limit=20)
    stack.deferred.run()
    assert stack.clock.time == NEW_YEAR + 20
    assert "SoftTimeLimitExceeded" in str(application.celery.AsyncResult(identity).result)


def test_a_hard_time_limit_interrupts_a_sleep(stack: Twolane, application: Any) -> None:
    identity = slow(application.celery, time_limit=30)
    stack.deferred.run()
    assert stack.clock.time == NEW_YEAR + 30
    assert stack.tasks[identity].state == "FAILURE"


def test_tasks_that_no_time_is_left_for_go_back(stack: Twolane, application: Any) -> None:
    for _ in range(3):
        slow(application.celery)
    stack.deferred.run_until_idle()
    times = [at - NEW_YEAR for name, at in application.calls if name == "slow begins"]
    # The first batch has no time left for the third task, which comes at once in another one.
    assert times[0] == 0
    assert sum(name == "slow ends" for name, _ in application.calls) >= 2
    assert all(task.done for task in stack.tasks)


def test_revoking_terminates_a_task_that_sleeps(
    stack: Twolane, application: Any, make: Callable[..., Twolane]
) -> None:
    identity = slow(application.celery)
    stack.world.loop.call_later(
        10, lambda: application.celery.control.revoke(identity, terminate=True)
    )
    stack.deferred.run()
    assert stack.tasks[identity].state == "REVOKED"
    assert 10 <= stack.clock.time - NEW_YEAR <= 12


def test_handlers_keep_a_real_sleep_elsewhere(application: Any) -> None:
    assert isinstance(application.worker, WorkerHandler)
    assert application.worker._worker._sleep(0) is None
