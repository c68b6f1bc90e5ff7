"""The DynamoDB chord counter, on moto: each part once, however often it is delivered."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError
from celery import Celery, chord, signature
from celery.app import backends

from twolane.patches import publishing as hooks
from twolane.worker.dynamodb_backend import DynamoDBBackend


@pytest.fixture
def started(results_table: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A chord of three whose messages are caught, and a way to end its parts."""
    hooks.redirect_names()
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

    def end(number: int, *, store: bool = True) -> None:
        backend: Any = app.backend
        signature = {**body.s(), "options": {"task_id": result.id}}
        request = SimpleNamespace(
            id=ids[number - 1], group=result.parent.id, chord=signature, errbacks=None
        )
        if store:
            backend.store_result(ids[number - 1], number, "SUCCESS")
        backend.on_chord_part_return(request, "SUCCESS", number)

    return SimpleNamespace(app=app, end=end, ids=ids, published=published, result=result)


def bodies(started: Any) -> list[Any]:
    return [args for name, _, args in started.published if name == "body"]


def test_dynamodb_results_get_this_backend() -> None:
    hooks.redirect_names()
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


def units(item: dict[str, Any]) -> int:
    """Write units of an item: one for each KB begun, of names and values.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/capacity-mode-on-demand.html
    """
    size = sum(
        len(name) + sum(len(str(value)) for value in typed.values()) for name, typed in item.items()
    )
    return -(-size // 1024)


class Meter:
    """Adds up the write units of a client's requests, by the items as they are after the write.

    An item in a transaction takes twice as many, also where the transaction fails.
    """

    def __init__(self, client: Any) -> None:
        self.client, self.spent, self.busy = client, 0, False
        client.meta.events.register("before-parameter-build.dynamodb", self.sent)
        client.meta.events.register("after-call.dynamodb", self.answered)
        self.asked: list[tuple[dict[str, Any], int]] = []

    def sent(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        if self.busy:
            return
        written = [params] if model.name in {"PutItem", "UpdateItem", "DeleteItem"} else []
        twice = [one for each in params.get("TransactItems", ()) for one in each.values()]
        for one, times in [(each, 1) for each in written] + [(each, 2) for each in twice]:
            self.asked.append((one.get("Key") or {"id": one["Item"]["id"]}, times))

    def answered(self, **_: Any) -> None:
        if self.busy:
            return
        asked, self.asked, self.busy = self.asked, [], True
        for key, times in asked:
            item = self.client.get_item(TableName="results", Key=key).get("Item", key)
            self.spent += units(item) * times
        self.busy = False


def part_of(group_id: str, number: int) -> Any:
    body = {**signature("body"), "options": {"task_id": "the-body"}}
    return SimpleNamespace(
        id=f"part-{number:032}", group=group_id, group_index=number, chord=body, errbacks=None
    )


def test_a_part_costs_the_same_however_many_there_are(started: Any, results_table: Any) -> None:
    backend: Any = started.app.backend
    backend.set_chord_size("big", 20_000)
    meter = Meter(backend.client)
    spent = []
    for number in range(60):
        before = meter.spent
        backend.on_chord_part_return(part_of("big", number), "SUCCESS", number)
        spent.append(meter.spent - before)
    assert spent == [4] * 60
    key = str(backend.get_key_for_chord("big"))
    counter = results_table.get_item(TableName="results", Key={"id": {"S": key}})["Item"]
    assert counter["chord_count"]["N"] == "60"
    assert units(counter) == 1


@pytest.mark.slow
def test_a_chord_of_twenty_thousand(started: Any, results_table: Any) -> None:
    """Of its parts, the last five are counted here, and all are read for the body.

    moto copies its table for each transaction: twenty thousand of them would take hours.
    """
    size, last = 20_000, 5
    app, backend = started.app, started.app.backend
    ids = [part_of("huge", number).id for number in range(size)]
    header = app.GroupResult("huge", [app.AsyncResult(one) for one in ids])
    backend.apply_chord(("huge", header.results), signature("body"))
    stored = {"status": "SUCCESS", "traceback": None, "children": [], "date_done": None}
    for start in range(0, size, 25):
        requests = [
            {"PutRequest": {"Item": {
                "id": {"S": str(backend.get_key_for_task(ids[number]))},
                "result": {"B": json.dumps({**stored, "task_id": ids[number], "result": number})},
                "timestamp": {"N": "1"},
            }}}
            for number in range(start, start + 25)
        ]  # fmt: skip
        results_table.batch_write_item(RequestItems={"results": requests})
    key = str(backend.get_key_for_chord("huge"))
    count, sizes = {"N": str(size - last)}, {"N": str(size)}
    counter = {"id": {"S": key}, "chord_count": count, "chord_size": sizes}
    results_table.put_item(TableName="results", Item=counter)
    meter = Meter(backend.client)
    spent = []
    for number in range(size - last, size):
        before = meter.spent
        backend.on_chord_part_return(part_of("huge", number), "SUCCESS", number)
        spent.append(meter.spent - before)
    assert spent[:-1] == [4] * (last - 1)
    assert [len(args[0]) for args in bodies(started)] == [size]
    assert bodies(started)[0][0] == list(range(size))


def test_one_task_completes_a_chord_that_two_see_complete(started: Any) -> None:
    """Each reads the count after both have counted; the other one leaves it to the first."""
    backend: Any = started.app.backend
    key = str(backend.get_key_for_chord("twins"))
    counts = [backend._count(key, part)["chord_count"]["N"] for part in ("a", "b", "a")]
    assert counts == ["1", "2", "2"]
    assert backend._claim(key, "a")
    assert not backend._claim(key, "b")
    assert backend._claim(key, "a"), "its message comes again, and completes the chord again"
    backend._finish(key, "twins")
    assert not backend._claim(key, "a")
    assert backend._count(key, "a") is None


def test_parts_that_end_at_once_are_each_counted(started: Any) -> None:
    """DynamoDB cancels a transaction while another one is at the same item."""
    backend: Any = started.app.backend
    waits: list[float] = []
    backend._sleep = waits.append
    conflicts = iter([True, True, False])

    def conflict(params: Any, **_: Any) -> Any:
        if next(conflicts, False):
            answer = {
                "Error": {"Code": "TransactionCanceledException"},
                "CancellationReasons": [{"Code": "None"}, {"Code": "TransactionConflict"}],
            }
            raise backend.client.exceptions.TransactionCanceledException(answer, "Transact")

    backend.client.meta.events.register("before-call.dynamodb.TransactWriteItems", conflict)
    assert backend._count("chord-unlock-x", "a")["chord_count"]["N"] == "1"
    assert len(waits) == 2
    assert all(0 <= wait <= 1 for wait in waits)


def test_a_chord_whose_results_cannot_be_read_now_is_completed_later(started: Any) -> None:
    """Celery's backend fails such a chord for good."""
    started.end(1)
    started.end(2)
    backend: Any = started.app.backend
    down = EndpointConnectionError(endpoint_url="https://dynamodb")

    def refuse(**_: Any) -> None:
        raise down

    backend.client.meta.events.register("before-call.dynamodb.BatchGetItem", refuse)
    with pytest.raises(EndpointConnectionError):
        started.end(3)
    backend.client.meta.events.unregister("before-call.dynamodb.BatchGetItem", refuse)
    assert started.result.state == "PENDING"
    started.end(1)
    assert bodies(started) == [], "it is for the third part to complete the chord"
    started.end(3)
    assert bodies(started) == [([1, 2, 3],)]


def test_a_header_task_that_failed_as_a_store_would_fails_its_chord(started: Any) -> None:
    backend: Any = started.app.backend
    started.end(1)
    started.end(2)
    backend.mark_as_failure(started.ids[2], ConnectionResetError("of its own"))
    started.end(3, store=False)
    assert bodies(started) == []
    assert "of its own" in str(started.result.result)


def test_a_chord_that_a_publisher_without_twolane_has_started(
    started: Any, results_table: Any
) -> None:
    """It has set a counter to zero, as Celery's own backend does, and says no size."""
    key = str(started.app.backend.get_key_for_chord(started.result.parent.id))
    counter = {"id": {"S": key}, "chord_count": {"N": "0"}, "timestamp": {"N": "1"}}
    results_table.put_item(TableName="results", Item=counter)
    for number in (1, 2, 2):
        started.end(number)
    assert bodies(started) == []
    started.end(3)
    assert bodies(started) == [([1, 2, 3],)]
