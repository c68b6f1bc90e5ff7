"""Names and queues of what a background task calls, with real Celery tasks."""

from __future__ import annotations

import functools
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery
from starlette.background import BackgroundTask

from twolane.api.inline import name_of, publisher_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def celery() -> Iterator[Celery]:
    app = Celery("test", broker="memory://", backend="cache+memory://", set_as_current=False)
    # kombu keeps the queues of memory:// for the whole process.
    app.conf.task_default_queue = str(uuid.uuid4())
    yield app
    app.close()


@pytest.fixture
def task(celery: Celery) -> Any:
    @celery.task(name="app.send")
    def send(email: str, *, message: str = "") -> str:
        return f"{email}: {message}"

    return send


class Sender:
    def send(self) -> None:
        """A method to be called."""

    def __call__(self) -> None:
        """An instance to be called."""


def local() -> None:
    """A function to be called."""


def test_names_are_those_of_the_source(task) -> None:
    module = __name__
    assert name_of(task) == "app.send"
    assert name_of(local) == f"{module}.local"
    assert name_of(functools.partial(local)) == f"{module}.local"
    assert name_of(Sender().send) == f"{module}.Sender.send"
    assert name_of(Sender()) == f"{module}.Sender"
    assert name_of(print) == "builtins.print"


def _received(celery: Celery) -> tuple[Any, str]:
    """Arguments and id of the one message on the queue."""
    with celery.connection_for_read() as connection:
        message = connection.SimpleQueue(celery.conf.task_default_queue).get(block=False)
        (args, kwargs, _) = message.payload
        return (args, kwargs), message.headers["id"]


def test_a_task_goes_onto_its_queue_with_its_arguments(celery, task) -> None:
    publish = publisher_of(BackgroundTask(task, "user@example.com", message="hello"))
    assert publish is not None
    task_id = publish()
    assert _received(celery) == ((["user@example.com"], {"message": "hello"}), task_id)


def test_so_does_a_partial_of_one(celery, task) -> None:
    call = functools.partial(functools.partial(task, "user@example.com"), message="hello")
    publish = publisher_of(BackgroundTask(call, message="other"))
    assert publish is not None
    publish()
    assert _received(celery)[0] == (["user@example.com"], {"message": "other"})


def test_so_does_a_call_that_was_only_going_to_publish(celery, task) -> None:
    for work in (
        BackgroundTask(task.delay, "user@example.com"),
        BackgroundTask(task.apply_async, ("user@example.com",)),
    ):
        publish = publisher_of(work)
        assert publish is not None
        publish()
        assert _received(celery)[0] == (["user@example.com"], {})


@pytest.mark.parametrize("func", [local, Sender(), Sender().send, print])
def test_nothing_else_does(func) -> None:
    assert publisher_of(BackgroundTask(func)) is None


def test_a_method_of_a_task_is_not_the_task(task) -> None:
    assert publisher_of(BackgroundTask(task.retry)) is None
