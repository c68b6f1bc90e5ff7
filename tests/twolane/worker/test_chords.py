"""The DynamoDB chord counter, on moto: each part once, however often it is delivered."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from celery import Celery, chord
from celery.app import backends

from twolane.worker import hooks
from twolane.worker.chords import DynamoDBBackend


@pytest.fixture
def started(results_table: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A chord of three whose messages are caught, and a way to end its parts."""
    hooks.install()
    app = Celery("chords", set_as_current=False)
    app.conf.update(broker_url="memory://", result_backend="dynamodb://@us-east-1/results")
    app.set_current()

    @app.task(shared=False, name="part")
    def part(x: int) -> int:
        return x

    @app.task(shared=False, name="body")
    def body(numbers: list[int]) -> int:
        return sum(numbers)

    published: list[tuple[str, str, Any]] = []

    def catch(name: str, args: Any = None, task_id: str = "", **_: Any) -> Any:
        published.append((name, task_id, args))
        return app.AsyncResult(task_id)

    monkeypatch.setattr(app, "send_task", catch)
    monkeypatch.setattr(
        app.Task,
        "apply_async",
        lambda self, args=None, kwargs=None, task_id="", **_: catch(self.name, args, task_id),
    )
    result = chord([part.s(1), part.s(2), part.s(3)])(body.s())
    ids = [task_id for name, task_id, _ in published if name == "part"]
    published.clear()

    def end(number: int) -> None:
        backend: Any = app.backend
        signature = {**body.s(), "chord_size": 3, "options": {"task_id": result.id}}
        request = SimpleNamespace(
            id=ids[number - 1], group=result.parent.id, chord=signature, errbacks=None
        )
        backend.store_result(ids[number - 1], number, "SUCCESS")
        backend.on_chord_part_return(request, "SUCCESS", number)

    return SimpleNamespace(app=app, end=end, published=published, result=result)


def bodies(started: Any) -> list[Any]:
    return [args for name, _, args in started.published if name == "body"]


def test_dynamodb_results_get_this_backend() -> None:
    hooks.install()
    assert backends.by_url("dynamodb://@us-east-1/results")[0] is DynamoDBBackend


def test_the_body_starts_with_the_last_part(started: Any) -> None:
    started.end(1)
    started.end(2)
    assert bodies(started) == []
    started.end(3)
    assert bodies(started) == [([1, 2, 3],)]


def test_a_part_that_ends_twice_counts_once(started: Any) -> None:
    for number in (1, 1, 1, 2, 2):
        started.end(number)
    assert bodies(started) == []
    started.end(3)
    assert bodies(started) == [([1, 2, 3],)]


def test_a_part_that_comes_after_the_end_changes_nothing(started: Any) -> None:
    for number in (1, 2, 3):
        started.end(number)
    started.end(1)
    started.end(3)
    assert bodies(started) == [([1, 2, 3],)]
    assert started.result.state == "PENDING"  # the body has not run; nothing has failed it


def test_what_is_left_of_a_chord_expires(started: Any, results_table: Any) -> None:
    started.end(1)
    counters = [
        item
        for item in results_table.scan(TableName="results")["Items"]
        if "chord-unlock" in item["id"]["S"]
    ]
    counter, part = sorted(counters, key=lambda item: len(item["id"]["S"]))
    assert counter["chord_count"]["N"] == "1"
    assert part["id"]["S"].startswith(counter["id"]["S"])
    assert all(int(item["ttl"]["N"]) > 0 for item in counters)


def units(item: dict[str, Any], *, transaction: bool) -> int:
    """Write units of one item: one for each KB begun, twice that in a transaction.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/provisioned-capacity-mode.html
    """
    size = sum(
        len(name) + sum(len(str(value)) for value in typed.values()) for name, typed in item.items()
    )
    return -(-size // 1024) * (2 if transaction else 1)


class Meter:
    """Counts the write units of what a client sends, and looks at the item that each is about."""

    def __init__(self, client: Any) -> None:
        self.client, self.spent = client, 0
        client.meta.events.register("after-call.dynamodb.*", self.note)

    def note(self, model: Any, context: Any, **_: Any) -> None:
        """Items are measured as they are after the write, which is what DynamoDB bills."""
        for write in self.writes:
            found = self.client.get_item(TableName="results", Key={"id": write[0]})
            self.spent += units(found.get("Item", {"id": {"S": ""}}), transaction=write[1])
        self.writes = []

    writes: list[tuple[Any, bool]] = []  # noqa: RUF012 - replaced
