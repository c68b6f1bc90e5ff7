"""Celery's result and our lease in one transaction, on moto's DynamoDB."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from botocore.exceptions import ClientError
from celery import Celery, states
from celery.app.task import Context

from twolane.errors import StoreUnavailableError
from twolane.patches.clients import FENCE
from twolane.state.dynamodb import DynamoDBStore
from twolane.worker.dynamodb_backend import DynamoDBBackend
from twolane.worker.handler import WorkerHandler
from twolane.worker.lease import (
    Delivery,
    Lease,
    LeaseFence,
    Leases,
    LeaseState,
    read_lease,
    write_lease,
)

from .conftest import HELD_UP, RecordedQueues, body, event, record
from .conftest import Context as LambdaContext

if TYPE_CHECKING:
    from collections.abc import Callable

KEEP_S = 86_400.0
KEY = "twolane:lease:t1"


@pytest.fixture
def app(results_table: Any) -> Celery:
    app = Celery("results", set_as_current=False)
    app.conf.result_backend = "dynamodb://@us-east-1/results?ttl_seconds=600"
    return app


def open_backend(app: Celery) -> Any:
    """An execution environment's own."""
    return DynamoDBBackend(app=app, url=app.conf.result_backend)


@pytest.fixture
def backend(app: Celery) -> Any:
    backend = open_backend(app)
    assert backend.client is not None  # it looks for its table first
    return backend


@pytest.fixture
def store(results_table: Any) -> DynamoDBStore:
    return DynamoDBStore("results", lambda: results_table, beside_results=True)


def lease_of(holder: str, state: LeaseState = LeaseState.RUNNING, *, left_s: float = 60) -> Lease:
    now = time.time()
    return write_lease(state, Delivery(holder, "m", "p"), since=now - 99, until=now + left_s)


def fence_with(store: DynamoDBStore, held: Lease) -> LeaseFence:
    return LeaseFence("t1", KEY, held, Leases(store, time.time, KEEP_S))


@pytest.fixture
def fence(store: DynamoDBStore) -> LeaseFence:
    """The running task's lease, taken."""
    held = lease_of("h")
    assert Leases(store, time.time, KEEP_S).take(KEY, None, held) is None
    return fence_with(store, held)


@pytest.fixture
def held_up(store: DynamoDBStore) -> LeaseFence:
    """The task was held up for longer than its lease."""
    return fence_with(store, lease_of("h", left_s=-9))


def lease_state(store: DynamoDBStore) -> LeaseState:
    lease = read_lease(store.get_many([KEY]).get(KEY))
    assert lease is not None
    return lease.state


def calls(backend: Any) -> list[str]:
    made: list[str] = []
    backend.client.meta.events.register(
        "before-call.dynamodb", lambda model, **_: made.append(model.name)
    )
    return made


def asking(fence: LeaseFence | None, **options: Any) -> Context:
    """The running task's request."""
    request = Context(id="t1", **options)
    if fence is not None:
        setattr(request, FENCE, fence)
    return request


def failing(fence: LeaseFence | None, **options: Any) -> Context:
    return asking(fence, task="t.fails", **options)


def say(backend: Any, state: str, fence: LeaseFence | None = None) -> None:
    """What Celery's tracer calls for the task as it runs or ends."""
    if state == states.SUCCESS:
        backend.mark_as_done("t1", 1, asking(fence))
    elif state == states.FAILURE:
        backend.mark_as_failure("t1", ValueError("late"), request=failing(fence))
    elif state == states.RETRY:
        backend.mark_as_retry("t1", ValueError("late"), request=asking(fence))
    else:
        backend.store_result("t1", None, state, request=asking(fence))


def test_a_success_and_the_end_of_its_lease_are_one_call(
    backend: Any, fence: LeaseFence, store: DynamoDBStore
) -> None:
    made = calls(backend)
    say(backend, states.SUCCESS, fence)
    assert made == ["TransactWriteItems"]
    assert backend.get_result("t1") == 1
    assert lease_state(store) is LeaseState.DONE
    assert fence.ended is not None
    assert store.get_many([KEY])[KEY] == fence.ended.text


def test_a_success_over_started_is_one_call_as_well(
    backend: Any, fence: LeaseFence, store: DynamoDBStore
) -> None:
    say(backend, states.STARTED, fence)
    made = calls(backend)
    say(backend, states.SUCCESS, fence)
    assert made == ["TransactWriteItems"]
    assert lease_state(store) is LeaseState.DONE


def test_what_is_stored_is_what_celery_stores(backend: Any, results_table: Any) -> None:
    from celery.backends.dynamodb import DynamoDBBackend as Stock

    backend.store_result("t1", [1], states.SUCCESS)
    stock: Any = Stock(app=backend.app, url=backend.app.conf.result_backend)
    assert stock.get_result("t1") == [1]
    (item,) = results_table.scan(TableName="results")["Items"]
    assert set(item) == {"id", "result", "timestamp", "ttl"}
    assert 590 < int(item["ttl"]["N"]) - time.time() <= 600


def test_a_success_is_never_overwritten_anything_else_is(backend: Any) -> None:
    for state in (states.STARTED, states.FAILURE, states.RETRY, states.SUCCESS):
        say(backend, state)
        assert backend.get_state("t1") == state
    say(backend, states.FAILURE)
    assert backend.get_result("t1") == 1


def test_what_was_revoked_does_not_fail_as_well(backend: Any) -> None:
    backend.store_result("t1", None, states.REVOKED)
    backend.mark_as_failure("t1", ValueError("the header failed"))
    assert backend.get_state("t1") == "REVOKED"


def test_what_has_failed_is_not_revoked_as_well(backend: Any) -> None:
    """Who revokes a task reads its state first; it may fail in between."""
    backend.mark_as_failure("t1", ValueError("just now"))
    backend.mark_as_revoked("t1", "revoked")
    assert backend.get_state("t1") == "FAILURE"


@pytest.mark.parametrize(("acks", "state"), [(True, LeaseState.DONE), (False, LeaseState.REJECTED)])
def test_a_failure_ends_its_lease_as_its_message_ends(
    backend: Any, fence: LeaseFence, store: DynamoDBStore, acks: bool, state: LeaseState
) -> None:
    def fails() -> None: ...

    options = {"acks_late": True, "acks_on_failure_or_timeout": acks, "shared": False}
    backend.app.task(fails, name="t.fails", **options)
    say(backend, states.FAILURE, fence)
    assert backend.get_state("t1") == "FAILURE"
    assert lease_state(store) is state


@pytest.mark.parametrize("what", ["chord", "chain", "errbacks"])
def test_a_failure_with_consequences_ends_its_lease_after_them(
    backend: Any,
    fence: LeaseFence,
    store: DynamoDBStore,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    for name in ("on_chord_part_return", "_fail_chain", "_call_task_errbacks"):
        monkeypatch.setattr(backend, name, lambda *_, **__: None)
    after = {what: [{"task": "x", "options": {"task_id": None}}]}
    backend.mark_as_failure("t1", ValueError("no"), request=failing(fence, **after))
    assert backend.get_state("t1") == "FAILURE"
    assert store.get_many([KEY])[KEY] == fence.held.text
    assert fence.ended is None


@pytest.mark.parametrize(("theirs", "state", "stored"), HELD_UP)
def test_whoever_was_held_up_does_not_say_how_another_s_work_ended(
    backend: Any,
    held_up: LeaseFence,
    store: DynamoDBStore,
    *,
    theirs: LeaseState,
    state: str,
    stored: bool,
) -> None:
    other = lease_of("x", theirs)
    store.put(KEY, other.text, ttl_s=60)
    say(backend, state, held_up)
    assert (backend.get_state("t1") == state) is stored
    assert store.get_many([KEY])[KEY] == other.text


@pytest.mark.parametrize(("there", "stored"), [("STARTED", True), ("REVOKED", False)])
def test_without_another_holder_only_what_has_ended_stands(
    app: Celery,
    backend: Any,
    held_up: LeaseFence,
    store: DynamoDBStore,
    *,
    there: str,
    stored: bool,
) -> None:
    open_backend(app).store_result("t1", None, there)
    say(backend, states.FAILURE, held_up)
    assert (backend.get_state("t1") == "FAILURE") is stored
    if stored:
        assert lease_state(store) is LeaseState.DONE


def frozen_before_its_write(backend: Any, meanwhile: Callable[[], None]) -> None:
    """Freeze the environment once it has sent its next write, and let others go on."""
    left = [meanwhile]

    def freeze(model: Any, **_: Any) -> None:
        if model.name in {"PutItem", "TransactWriteItems"} and left:
            left.pop()()

    backend.client.meta.events.register("before-call.dynamodb", freeze)


@pytest.mark.parametrize("says", [states.SUCCESS, states.FAILURE, states.RETRY, states.STARTED])
@pytest.mark.parametrize("successor", [states.SUCCESS, states.FAILURE])
def test_an_environment_thawed_after_its_successor_ended_changes_nothing(
    backend: Any,
    fence: LeaseFence,
    store: DynamoDBStore,
    says: str,
    successor: str,
) -> None:
    """It is frozen between its look at what is there and its write: no look can help it."""

    def take_over() -> None:
        other = lease_of("x")
        store.put(KEY, other.text, ttl_s=60)
        theirs = fence_with(store, other)
        if successor == states.SUCCESS:
            open_backend(backend.app).mark_as_done("t1", "theirs", asking(theirs))
        else:
            error = ValueError("theirs")
            open_backend(backend.app).mark_as_failure("t1", error, request=failing(theirs))

    frozen_before_its_write(backend, take_over)
    say(backend, says, fence)
    assert backend.get_state("t1") == successor
    assert "theirs" in str(backend.get_result("t1"))
    assert lease_state(store) is LeaseState.DONE
    assert fence.ended is None


def test_an_environment_thawed_while_its_successor_runs_cannot_fail_the_task(
    backend: Any, fence: LeaseFence, store: DynamoDBStore
) -> None:
    """Nothing is stored yet that its write could run against, but the lease."""
    other = lease_of("x")
    frozen_before_its_write(backend, lambda: store.put(KEY, other.text, ttl_s=60))
    say(backend, states.FAILURE, fence)
    assert backend.get_state("t1") == "PENDING"
    assert store.get_many([KEY])[KEY] == other.text


def test_a_header_s_failure_is_dropped_with_its_lease_too(
    backend: Any, fence: LeaseFence, store: DynamoDBStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lease ends after the chord has counted it, but is looked at all the same."""
    monkeypatch.setattr(backend, "on_chord_part_return", lambda *_, **__: None)
    other = lease_of("x")
    frozen_before_its_write(backend, lambda: store.put(KEY, other.text, ttl_s=60))
    backend.mark_as_failure(
        "t1", ValueError("late"), request=failing(fence, chord={"task": "body"})
    )
    assert backend.get_state("t1") == "PENDING"
    assert store.get_many([KEY])[KEY] == other.text


def test_a_write_whose_answer_was_lost_is_known_again(
    app: Celery, backend: Any, fence: LeaseFence, store: DynamoDBStore, caplog: Any
) -> None:
    """botocore sends it once more, with a token by which AWS knows it; moto does not."""
    frozen_before_its_write(backend, lambda: say(open_backend(app), states.FAILURE, fence))
    say(backend, states.FAILURE, fence)
    assert backend.get_state("t1") == "FAILURE"
    assert fence.ended is not None
    assert "dropped" not in caplog.text


def test_an_item_that_changes_without_end_is_the_store_s_trouble(app: Celery, backend: Any) -> None:
    theirs = open_backend(app)
    count = [0]

    def interfere(model: Any, **_: Any) -> None:
        count[0] += 1
        theirs.store_result("t1", count[0], "PROGRESS")

    backend.client.meta.events.register("before-call.dynamodb.PutItem", interfere)
    with pytest.raises(StoreUnavailableError, match="changed 10 times"):
        backend.store_result("t1", None, states.STARTED)


def test_any_other_refusal_is_raised(backend: Any, fence: LeaseFence) -> None:
    backend.table_name = "gone"
    with pytest.raises(ClientError, match="not found"):
        say(backend, states.SUCCESS, fence)
    assert fence.ended is None


def test_what_could_not_be_stored_is_no_failure_of_the_task(backend: Any) -> None:
    """Celery makes a failed task of it, and would say so once the table answers again."""
    from botocore.exceptions import EndpointConnectionError

    down = EndpointConnectionError(endpoint_url="https://dynamodb")

    def refuse(**_: Any) -> None:
        raise down

    backend.client.meta.events.register("before-call.dynamodb", refuse)
    with pytest.raises(EndpointConnectionError):
        say(backend, states.STARTED)
    backend.client.meta.events.unregister("before-call.dynamodb", refuse)
    try:
        raise down
    except EndpointConnectionError:
        with pytest.raises(EndpointConnectionError):
            backend.mark_as_failure("t1", RuntimeError("the same, made picklable"))
    assert backend.get_state("t1") == "PENDING"
    backend.mark_as_failure("t1", down)
    assert backend.get_state("t1") == "FAILURE", "the task's own, this time"


def test_the_worker_s_own_way_there(app: Celery, results_table: Any) -> None:
    """The task stands still past its lease, another environment does its work; then it fails."""
    app.conf.broker_url = "sqs://"

    @app.task(name="t.slow", shared=False)
    def slow() -> str:
        if not runs:
            runs.append("first")
            second(event(record(text, "m1", received=2)), LambdaContext(60_000))
            raise ValueError("the first one fails, late")
        return "the second one's"

    runs: list[str] = []
    text = body("t.slow", task_id="t1")
    queues = RecordedQueues()
    first = WorkerHandler(app, queues=queues)
    second = WorkerHandler(app, queues=queues, clock=lambda: time.time() + 100)
    first(event(record(text, "m1")), LambdaContext(2_000))
    result = app.AsyncResult("t1")
    assert (result.state, result.get()) == ("SUCCESS", "the second one's")
    (lease,) = [
        read_lease(item["state"]["S"])
        for item in results_table.scan(TableName="results")["Items"]
        if item["id"]["S"].startswith("twolane:lease:t1:")
    ]
    assert lease is not None
    assert lease.state is LeaseState.DONE
