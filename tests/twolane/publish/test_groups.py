"""Celery's canvas through the batch: on moto's SQS, and untouched on another broker."""

from __future__ import annotations

import inspect
import json
from typing import TYPE_CHECKING, Any

from celery import Celery, canvas, chain, group

from twolane.patches import publishing as groups
from twolane.publish import install
from twolane.publish.batch import Batch
from twolane.publish.client import SqsClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def watch(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    actions: list[str] = []
    call = SqsClient.call

    def recorded(self: SqsClient, action: str, *args: Any) -> dict[str, Any]:
        actions.append(action)
        return call(self, action, *args)

    monkeypatch.setattr(SqsClient, "call", recorded)
    return actions


def test_a_group_of_25_is_three_requests(
    app: Celery, queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = watch(monkeypatch)
    result = group([app.tasks["shop.add"].s(n, n) for n in range(25)]).delay()
    assert actions == ["SendMessageBatch"] * 3
    sent = {json.loads(message["Body"])["headers"]["id"] for message in queue.take(25)}
    assert sent == {child.id for child in result.children}


def test_a_group_in_a_group_shares_its_batch(
    app: Celery, queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = watch(monkeypatch)
    add = app.tasks["shop.add"]
    group(add.s(0, 0), group(add.s(1, n) for n in range(3)), add.s(2, 2)).delay()
    assert actions == ["SendMessageBatch"]
    assert len(queue.take(5)) == 5


def test_a_slow_generators_first_task_does_not_wait_for_its_third(
    app: Celery, queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = watch(monkeypatch)
    seen: list[int] = []
    now = [0.0]
    monkeypatch.setitem(Batch.__init__.__kwdefaults__, "monotonic", lambda: now[0])

    def slow() -> Iterator[Any]:
        for number in range(6):
            now[0] += 60
            seen.append(len(actions))
            yield app.tasks["shop.add"].s(number, number)

    group(slow()).delay()
    # Celery itself draws one or two tasks ahead of the one that it publishes.
    assert seen == [0, 0, 1, 1, 2, 2]
    assert len(queue.take(6)) == 6


def test_a_chain_stays_a_single_message(
    app: Celery, queue: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    actions = watch(monkeypatch)
    add = app.tasks["shop.add"]
    chain(add.s(1, 1), add.s(2), add.s(3)).delay()
    assert actions == ["SendMessage"]
    (message,) = queue.take()
    assert json.loads(message["Body"])["headers"]["task"] == "shop.add"


def test_delays_in_a_group_stay_each_tasks_own(app: Celery, queue: Any) -> None:
    add = app.tasks["shop.add"]
    group(add.s(1, 1), add.s(2, 2).set(countdown=60)).delay()
    assert len(queue.take()) == 1
    assert queue.delayed() == 1


def test_other_brokers_see_stock_publishes() -> None:
    install()
    app = Celery("shop", broker="memory://", set_as_current=False)
    # kombu's memory queues are the process's: this one is nobody else's.
    app.conf.update(task_ignore_result=True, task_default_queue="untouched")
    seen: list[str] = []
    with app.connection_for_write() as connection:
        channel = connection.default_channel
        group(app.signature("shop.add", (n, n)) for n in range(3)).apply_async()
        while (message := channel.basic_get("untouched", no_ack=True)) is not None:
            seen.append(message.headers["id"])
    app.close()
    assert len(seen) == 3


def test_installing_twice_wraps_once() -> None:
    install()
    first = canvas.group._apply_tasks
    install()
    assert canvas.group._apply_tasks is first


def test_the_method_that_is_wrapped_is_the_one_that_we_know() -> None:
    """A Celery that renames or reshapes it must not pass unnoticed."""
    source = inspect.getsource(canvas)
    assert "def _apply_tasks(self, tasks, producer=None, app=None, p=None," in source
    assert "self._apply_tasks(tasks, producer, app, p," in source
    assert hasattr(canvas.group._apply_tasks, groups._BATCHED)
