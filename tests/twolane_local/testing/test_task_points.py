"""Faults inside of a task and at the result store, by the fixture's own means."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from celery import Celery, Task

from twolane import WorkerHandler
from twolane_local.faults.injection import CATALOGUE, FaultError
from twolane_local.testing.project import of_handlers, queue_url
from twolane_local.testing.stores import URL
from twolane_local.testing.task_points import UNMOUNTED

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.testing.stack import Twolane

VIRTUAL = [name for name, kind in CATALOGUE.items() if "virtual" in kind.where]
MOUNTED = [name for name in VIRTUAL if CATALOGUE[name].point not in UNMOUNTED]
#: Only a message that is returned has its visibility changed; nobody knows this task.
WANTED = {"visibility.failed": "nothing"}
#: The fault → how often the task's body has run when all is over.
BODIES = {
    "environment.killed-before-task": 1,
    "environment.killed-during-task": 1,
    "environment.killed-after-effect": 2,
    "environment.killed-after-result": 1,
    "environment.out-of-memory": 1,
    "environment.frozen": 1,
    "environment.frozen-after-effect": 2,
    "task.slow": 1,
    "store.slow": 1,
    "store.down": 1,
    "store.reply-lost": 1,
}


def fired(stack: Twolane) -> list[str]:
    return [event.data["name"] for event in stack.journal.find("fault.injected")]


@pytest.mark.parametrize("name", MOUNTED)
def test_each_fault_of_virtual_time_happens(stack: Twolane, name: str) -> None:
    stack.faults.inject(name)
    stack.client.post(f"/run/{WANTED.get(name, 'note')}", json=["a"])
    stack.deferred.run_until_idle()
    stack.clock.advance(90)  # a tick
    stack.deferred.run_until_idle()
    assert fired(stack) == [name]
    assert len(stack.queue("tasks")) == 0


@pytest.mark.parametrize("name", sorted(set(VIRTUAL) - set(MOUNTED)))
def test_what_cannot_happen_here_is_refused(stack: Twolane, name: str) -> None:
    with pytest.raises(FaultError, match=f"{name} cannot happen here; it can with `twolane sim"):
        stack.faults.inject(name)


@pytest.mark.parametrize("name", BODIES)
def test_the_task_ends_well_all_the_same(stack: Twolane, application: Any, name: str) -> None:
    stack.faults.inject(name, target="*" if CATALOGUE[name].point != "store" else "* twolane:*")
    identity = stack.client.post("/notes/a").json()["id"]
    stack.deferred.run_until_idle()
    assert fired(stack) == [name]
    assert application.celery.AsyncResult(identity).state == "SUCCESS"
    assert [call for call, _ in application.calls].count("a") == BODIES[name]
    assert stack.queue("tasks").dead_letters == []


def test_a_killed_environment_is_stopped(stack: Twolane) -> None:
    stack.faults.inject("environment.killed-during-task")
    identity = stack.client.post("/notes/a").json()["id"]
    stack.deferred.run_until_idle()
    assert any(event.data.get("killed") for event in stack.journal.find("environment.stopped"))
    assert stack.tasks[identity].attempts == 2


def test_a_task_that_hangs_gets_its_time_limit(stack: Twolane, application: Any) -> None:
    stack.faults.inject("environment.timeout")
    identity = stack.client.post("/notes/a").json()["id"]
    stack.deferred.run()
    result = application.celery.AsyncResult(identity)
    assert "TimeLimit" in repr(result.result)


def test_a_task_without_memory_fails(stack: Twolane, application: Any) -> None:
    stack.faults.inject("task.memory-error")
    identity = stack.client.post("/notes/a").json()["id"]
    stack.deferred.run()
    assert isinstance(application.celery.AsyncResult(identity).result, MemoryError)
    assert application.calls == []


def test_a_frozen_environment_goes_on_when_its_message_was_taken_over(
    stack: Twolane, application: Any
) -> None:
    stack.faults.inject("environment.frozen-after-effect", freeze_s=4000)
    stack.client.post("/notes/a")
    stack.deferred.run()
    assert len(stack.points.frozen) == 1
    stack.deferred.run_until_idle()
    assert not stack.points.frozen
    assert len(application.calls) == 2


def test_a_lost_write_is_lost(stack: Twolane, application: Any) -> None:
    stack.faults.inject("store.lost-write", target="*celery-task-meta*", count=0)
    identity = stack.client.post("/notes/a").json()["id"]
    stack.deferred.run_until_idle()
    assert application.celery.AsyncResult(identity).state == "PENDING"
    assert len(application.calls) == 1


def test_a_stack_that_ends_with_something_frozen(make: Callable[..., Twolane]) -> None:
    stack = make()
    stack.faults.inject("environment.frozen", freeze_s=4000)
    stack.client.post("/notes/a")
    stack.deferred.run()
    (process,) = stack.points.frozen
    stack.close()
    assert process.dead
    assert not process.asleep


def test_a_task_that_is_called_as_a_function_is_no_occasion(
    stack: Twolane, application: Any
) -> None:
    stack.faults.inject("task.memory-error", skip=1)
    task = application.celery.tasks["small.note"]
    stack.client.post("/notes/a")
    stack.deferred.run()
    task("directly")
    assert fired(stack) == []


class Custom(Task):
    """A base class with a body of its own around each task's, as many applications have one."""

    calls: ClassVar[list[str]] = []

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls.append("around")
        return super().__call__(*args, **options)


def own_application() -> Celery:
    celery = Celery("custom", set_as_current=False)
    celery.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": queue_url("tasks")}},
            "sqs_base64_encoding": False,
        },
        task_default_queue="tasks",
        result_backend=URL,
    )
    return celery


def test_a_task_with_a_call_of_its_own(make: Callable[..., Twolane]) -> None:
    Custom.calls.clear()
    celery = own_application()
    run: list[str] = []

    @celery.task(name="custom", base=Custom)
    def custom() -> None:
        run.append("inside")

    stack = make(of_handlers(worker=WorkerHandler(celery)))
    stack.faults.inject("environment.killed-after-effect")
    result = celery.send_task("custom")
    stack.deferred.run_until_idle()
    assert fired(stack) == ["environment.killed-after-effect"]
    assert (len(Custom.calls), len(run)) == (2, 2)
    assert result.state == "SUCCESS"


@pytest.mark.parametrize("base", [Task, Custom])
@pytest.mark.parametrize(
    ("retried", "state", "attempts"),
    [((MemoryError,), "SUCCESS", 2), ((ConnectionError,), "FAILURE", 1)],
)
def test_a_task_that_retries_by_itself_does_so_for_what_it_names(
    make: Callable[..., Twolane],
    base: type[Task],
    retried: tuple[type[Exception], ...],
    state: str,
    attempts: int,
) -> None:
    """As if its own function had raised: inside of what Celery wraps around it."""
    celery = own_application()
    run: list[int] = []

    @celery.task(name="again", base=base, autoretry_for=retried, retry_jitter=False)
    def again(depth: int = 0) -> None:
        run.append(depth)
        if not depth:
            again(1)  # a call of its own is no occasion

    stack = make(of_handlers(worker=WorkerHandler(celery)))
    stack.faults.inject("task.memory-error", skip=1, count=0)
    again(2)
    first = celery.send_task("again")
    stack.deferred.run_until_idle()
    assert (first.state, run) == ("SUCCESS", [2, 0, 1])
    stack.faults.clear()
    stack.faults.inject("task.memory-error")
    second = celery.send_task("again")
    stack.deferred.run_until_idle()
    assert second.state == state
    assert stack.tasks[second.id].attempts == attempts
