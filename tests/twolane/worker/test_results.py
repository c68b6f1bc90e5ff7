"""Celery's result and our lease in one round trip, on a real Redis and on the embedded one."""

from __future__ import annotations

import json
import threading
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, states
from celery.app.task import Context

from twolane.errors import StoreUnavailableError
from twolane.patches.clients import FENCE
from twolane.state.redis import RedisStore
from twolane.worker.lease import (
    Delivery,
    LeaseFence,
    Leases,
    LeaseState,
    read_lease,
    write_lease,
)
from twolane.worker.redis_backend import RedisBackend

from ...installed import celery_5_7  # noqa: TID252
from .conftest import HELD_UP

if TYPE_CHECKING:
    from collections.abc import Iterator

KEEP_S = 86_400.0
KEY = "twolane:lease:t1"


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    """On a real Redis; on the embedded one for a test that asks for it."""
    with ExitStack() as undo:
        wanted = getattr(request, "param", "redis-server")
        url = request.getfixturevalue("embedded_redis" if wanted == "embedded" else "redis_url")
        app = Celery("results", backend=url, set_as_current=False)
        app.conf.update(result_expires=600, result_failure_expires=60)
        backend: Any = RedisBackend(app=app, url=url)
        undo.callback(backend.client.close)
        backend.client.flushdb()
        yield backend


@pytest.fixture(scope="module")
def embedded_redis() -> Iterator[str]:
    """The server that ``twolane up`` starts on a machine without ``redis-server``."""
    from fakeredis import TcpFakeServer

    server = TcpFakeServer(("127.0.0.1", 0), server_type="redis")
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"redis://127.0.0.1:{server.server_address[1]}/0"
    server.shutdown()
    server.server_close()


#: For what the script does, which runs on two kinds of Lua.
on_both = pytest.mark.parametrize("backend", ["redis-server", "embedded"], indirect=True)


@pytest.fixture
def leases(backend: Any) -> Leases:
    return Leases(RedisStore(lambda: backend.client, beside_results=True), time.time, KEEP_S)


@pytest.fixture
def fence(leases: Leases) -> LeaseFence:
    """The running task's lease, taken."""
    fence = leases.hold("t1", KEY, None, Delivery("h", "m", "p"), for_s=60, worker="w")
    assert isinstance(fence, LeaseFence)
    return fence


def asking(fence: LeaseFence, **options: Any) -> Context:
    """The running task's request."""
    request = Context(id="t1", **options)
    setattr(request, FENCE, fence)
    return request


def lease_state(backend: Any) -> LeaseState:
    lease = read_lease(backend.client.get(KEY))
    assert lease is not None
    return lease.state


def commands(backend: Any) -> int:
    """Scripts and transactions that clients have sent so far."""
    stats = backend.client.info("commandstats")
    return sum(
        int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in ("evalsha", "multi")
    )


@pytest.mark.usefixtures("real_redis")
def test_a_success_and_the_end_of_its_lease_are_one_command(
    backend: Any, fence: LeaseFence
) -> None:
    backend.mark_as_done("t0", None, Context(id="t0"))  # loads the script
    before = commands(backend)
    backend.mark_as_done("t1", {"a": 1}, asking(fence))
    assert commands(backend) == before + 1
    assert backend.get_result("t1") == {"a": 1}
    assert lease_state(backend) is LeaseState.DONE
    assert fence.ended is not None
    assert backend.client.get(KEY).decode() == fence.ended.text
    assert KEEP_S - 5 < backend.client.ttl(KEY) <= KEEP_S


def test_what_is_stored_is_what_celery_stores(backend: Any) -> None:
    channel = backend.client.pubsub()
    key = backend.get_key_for_task("t1")
    channel.subscribe(key)
    assert channel.get_message(timeout=5)["type"] == "subscribe"
    backend.store_result("t1", [1], states.SUCCESS)
    published = channel.get_message(timeout=5)
    stored = backend.client.get(key)
    assert published["data"] == stored
    meta = json.loads(stored)
    assert (meta["status"], meta["result"], meta["task_id"]) == ("SUCCESS", [1], "t1")
    assert 590 < backend.client.ttl(key) <= 600
    channel.close()


def test_a_success_is_never_overwritten_anything_else_is(backend: Any) -> None:
    backend.store_result("t1", None, states.STARTED)
    backend.store_result("t1", 1, states.SUCCESS)
    assert backend.get_state("t1") == "SUCCESS"
    backend.mark_as_failure("t1", ValueError("late"))
    assert backend.get_result("t1") == 1


@celery_5_7
@pytest.mark.parametrize("seen_before", [False, True])
def test_a_failure_has_its_own_expiry(backend: Any, seen_before: bool) -> None:
    if seen_before:
        backend.store_result("t1", None, states.STARTED)
    backend.mark_as_failure("t1", ValueError("no"))
    assert backend.get_state("t1") == "FAILURE"
    assert 50 < backend.client.ttl(backend.get_key_for_task("t1")) <= 60


def test_results_that_never_expire(backend: Any) -> None:
    backend.expires = backend.failure_expires = None
    backend.store_result("t1", 1, states.SUCCESS)
    assert backend.client.ttl(backend.get_key_for_task("t1")) == -1


@pytest.mark.parametrize("store", ["update_state", "failure", "another", "header"])
def test_only_the_task_s_own_success_ends_its_lease(
    backend: Any, fence: LeaseFence, monkeypatch: pytest.MonkeyPatch, store: str
) -> None:
    if store == "update_state":
        backend.store_result("t1", 1, states.SUCCESS, request=asking(fence))
    elif store == "failure":
        backend.mark_as_failure("t1", ValueError("no"))
    elif store == "another":
        request = asking(fence)
        request.id = "t2"
        backend.mark_as_done("t2", 1, request)
    else:
        # The lease must not have ended while the chord has yet to count its header.
        counted: list[Any] = []
        monkeypatch.setattr(
            backend, "on_chord_part_return", lambda *_: counted.append(lease_state(backend))
        )
        backend.mark_as_done("t1", 1, asking(fence, chord={"task": "body"}))
        assert counted == [LeaseState.RUNNING]
    assert fence.ended is None
    assert lease_state(backend) is LeaseState.RUNNING


@on_both
def test_a_lease_that_has_passed_on_is_left_alone(backend: Any, fence: LeaseFence) -> None:
    now = time.time()
    theirs = write_lease(LeaseState.RUNNING, Delivery("x", "m", "p"), since=now, until=now + 60)
    backend.client.set(KEY, theirs.text)
    backend.mark_as_done("t1", 1, asking(fence))
    assert fence.ended is None
    assert backend.client.get(KEY).decode() == theirs.text
    assert backend.get_result("t1") == 1


def test_a_success_stored_before_leaves_the_lease_to_its_usual_end(
    backend: Any, fence: LeaseFence
) -> None:
    backend.store_result("t1", 1, states.SUCCESS, request=asking(fence))
    backend.mark_as_done("t1", 1, asking(fence))
    assert fence.ended is None
    assert lease_state(backend) is LeaseState.RUNNING


def failing(fence: LeaseFence, **options: Any) -> Context:
    return asking(fence, task="t.fails", **options)


@pytest.mark.usefixtures("real_redis")
@pytest.mark.parametrize(("acks", "state"), [(True, LeaseState.DONE), (False, LeaseState.REJECTED)])
def test_a_failure_and_the_end_of_its_lease_are_one_command(
    backend: Any, fence: LeaseFence, acks: bool, state: LeaseState
) -> None:
    """An environment that dies right after must not run again what has failed."""

    def fails() -> None: ...

    options = {"acks_late": True, "acks_on_failure_or_timeout": acks, "shared": False}
    backend.app.task(fails, name="t.fails", **options)
    backend.store_result("t1", None, states.STARTED, request=asking(fence))
    before = commands(backend)
    backend.mark_as_failure("t1", ValueError("no"), request=failing(fence))
    assert commands(backend) == before + 1
    assert backend.get_state("t1") == "FAILURE"
    assert lease_state(backend) is state
    assert fence.ended is not None


@pytest.mark.usefixtures("real_redis")
def test_a_retry_and_the_end_of_its_lease_are_one_command(backend: Any, fence: LeaseFence) -> None:
    backend.store_result("t1", None, states.STARTED, request=asking(fence))
    before = commands(backend)
    backend.mark_as_retry("t1", ValueError("again"), "trace", asking(fence))
    assert commands(backend) == before + 1
    assert backend.get_state("t1") == "RETRY"
    assert lease_state(backend) is LeaseState.DONE
    assert fence.ended is not None


def test_a_retry_whose_handler_fails_is_a_failure_after_all(
    backend: Any, fence: LeaseFence
) -> None:
    backend.mark_as_retry("t1", ValueError("again"), "trace", asking(fence))
    backend.mark_as_failure("t1", ValueError("on_retry"), request=failing(fence))
    assert backend.get_state("t1") == "FAILURE"
    assert fence.ended is not None
    assert lease_state(backend) is LeaseState.DONE


@pytest.mark.parametrize("what", ["chord", "chain", "errbacks"])
def test_a_failure_with_consequences_ends_its_lease_after_them(
    backend: Any, fence: LeaseFence, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    for name in ("on_chord_part_return", "_fail_chain", "_call_task_errbacks"):
        monkeypatch.setattr(backend, name, lambda *_, **__: None)
    after = {what: [{"task": "x", "options": {"task_id": None}}]}
    backend.mark_as_failure("t1", ValueError("no"), request=failing(fence, **after))
    assert lease_state(backend) is LeaseState.RUNNING
    assert fence.ended is None


@on_both
def test_a_success_over_started_ends_the_lease_as_well(backend: Any, fence: LeaseFence) -> None:
    backend.store_result("t1", None, states.STARTED, request=asking(fence))
    backend.mark_as_done("t1", 1, asking(fence))
    assert backend.get_result("t1") == 1
    assert lease_state(backend) is LeaseState.DONE


@pytest.fixture
def held_up(leases: Leases) -> LeaseFence:
    """The task was held up for longer than its lease."""
    now = time.time()
    held = write_lease(LeaseState.RUNNING, Delivery("h", "m", "p"), since=now - 99, until=now - 9)
    return LeaseFence("t1", KEY, held, leases)


@on_both
@pytest.mark.parametrize(("theirs", "state", "stored"), HELD_UP)
def test_whoever_was_held_up_does_not_say_how_another_s_work_ended(
    backend: Any, held_up: LeaseFence, theirs: LeaseState, state: str, stored: bool
) -> None:
    now = time.time()
    other = write_lease(theirs, Delivery("x", "m", "p"), since=now, until=now + 60)
    backend.client.set(KEY, other.text)
    if state == states.SUCCESS:
        backend.mark_as_done("t1", 1, asking(held_up))
    elif state == states.FAILURE:
        backend.mark_as_failure("t1", ValueError("late"), request=failing(held_up))
    else:
        backend.mark_as_retry("t1", ValueError("late"), request=asking(held_up))
    assert (backend.get_state("t1") == state) is stored
    assert backend.client.get(KEY).decode() == other.text


@pytest.mark.parametrize("says", [states.RETRY, states.STARTED, "a header's failure"])
def test_an_environment_that_froze_after_its_look_at_the_lease_says_nothing(
    backend: Any, fence: LeaseFence, monkeypatch: pytest.MonkeyPatch, says: str
) -> None:
    """What does not end the lease is written on the condition that it is held, too."""
    now = time.time()
    other = write_lease(LeaseState.DONE, Delivery("x", "m", "p"), since=now, until=now + 60)
    thaw = backend._write

    def frozen(change: Any) -> Any:
        monkeypatch.undo()
        monkeypatch.setattr(backend, "on_chord_part_return", lambda *_: None)
        backend.client.set(KEY, other.text)
        backend.client.set(change.key, '{"status": "FAILURE", "result": 1}')
        return thaw(change)

    monkeypatch.setattr(backend, "_write", frozen)
    monkeypatch.setattr(backend, "on_chord_part_return", lambda *_: None)
    if says == states.RETRY:
        backend.mark_as_retry("t1", ValueError("late"), request=asking(fence))
    elif says == states.STARTED:
        backend.store_result("t1", {}, states.STARTED, request=asking(fence))
    else:
        backend.mark_as_failure(
            "t1", ValueError("late"), request=failing(fence, chord={"task": "b"})
        )
    stored = json.loads(backend.client.get(backend.get_key_for_task("t1")))
    assert stored == {"status": "FAILURE", "result": 1}
    assert backend.client.get(KEY).decode() == other.text


@pytest.mark.parametrize("state", [states.RETRY, states.STARTED, "PROGRESS"])
def test_what_does_not_end_the_task_leaves_its_lease_as_it_is(
    backend: Any, fence: LeaseFence, state: str
) -> None:
    said = ValueError("x") if state == states.RETRY else {}
    backend.store_result("t1", said, state, request=asking(fence))
    assert backend.get_state("t1") == state
    assert backend.client.get(KEY).decode() == fence.held.text
    assert fence.ended is None


def test_words_in_a_task_s_own_state_are_not_its_state(backend: Any) -> None:
    backend.store_result("t1", {"status": "REVOKED", "of": {"status": "SUCCESS"}}, "PROGRESS")
    backend.mark_as_failure("t1", ValueError("the task's own"))
    assert backend.get_state("t1") == "FAILURE"


@pytest.mark.parametrize(("there", "stored"), [("STARTED", True), ("REVOKED", False)])
def test_without_another_holder_only_what_has_ended_stands(
    backend: Any, held_up: LeaseFence, there: str, stored: bool
) -> None:
    backend.store_result("t1", None, there)
    backend.mark_as_failure("t1", ValueError("late"), request=failing(held_up))
    assert (backend.get_state("t1") == "FAILURE") is stored
    if stored:
        assert lease_state(backend) is LeaseState.DONE


def test_what_was_revoked_does_not_fail_as_well(backend: Any) -> None:
    """Celery fails a chord's body when its header fails, whatever became of the body before."""
    backend.store_result("t1", None, states.REVOKED)
    backend.mark_as_failure("t1", ValueError("the header failed"))
    assert backend.get_state("t1") == "REVOKED"


@pytest.mark.parametrize("serializer", ["json", "yaml"])
def test_what_has_failed_is_not_revoked_as_well(backend: Any, serializer: str) -> None:
    """Who revokes a task reads its state first; it may fail in between."""
    backend.app.conf.update(result_serializer=serializer, result_accept_content=[serializer])
    backend = RedisBackend(app=backend.app, url=backend.url)
    backend.mark_as_failure("t1", ValueError("just now"))
    backend.mark_as_revoked("t1", "revoked")
    assert backend.get_state("t1") == "FAILURE"
    backend.store_result("t1", None, states.STARTED)
    backend.mark_as_revoked("t1", "revoked")
    assert backend.get_state("t1") == "REVOKED", "it was delivered again, and started anew"


JSON_OF_A_SUCCESS = {
    "stock": '{"status": "SUCCESS", "result": 1, "traceback": null, "children": []}',
    "another order": '{"result": 1, "traceback": null, "status": "SUCCESS", "children": []}',
    "no blanks": '{"result":1,"children":[],"status":"SUCCESS"}',
    "indented": '{\n  "result": 1,\n  "status": "SUCCESS"\n}',
}


@on_both
@pytest.mark.parametrize("form", JSON_OF_A_SUCCESS)
@pytest.mark.parametrize("state", [states.FAILURE, states.RETRY, states.STARTED, states.REVOKED])
def test_a_success_is_known_by_its_state_and_not_by_its_text(
    backend: Any, fence: LeaseFence, form: str, state: str
) -> None:
    """Celery may order its keys anew."""
    key, text = backend.get_key_for_task("t1"), JSON_OF_A_SUCCESS[form].encode()
    backend.client.set(key, text)
    said = ValueError("late") if state in states.EXCEPTION_STATES else {}
    backend.store_result("t1", said, state, request=asking(fence))
    assert backend.client.get(key) == text


@on_both
@pytest.mark.parametrize(
    "settings",
    [
        {"result_serializer": "yaml", "result_accept_content": ["yaml"]},
        {"result_compression": "gzip"},
        {"result_extended": True},
    ],
    ids="-".join,
)
def test_whatever_its_form_a_success_ends_its_lease_and_stays(
    backend: Any, fence: LeaseFence, settings: dict[str, Any]
) -> None:
    backend.app.conf.update(settings)
    own = RedisBackend(app=backend.app, url=backend.url)
    own.store_result("t1", {}, states.STARTED, request=asking(fence))
    own.mark_as_done("t1", {"a": 1}, asking(fence))
    assert lease_state(own) is LeaseState.DONE
    own.mark_as_failure("t1", ValueError("late"))
    assert own.get_result("t1") == {"a": 1}
    own.client.close()


@on_both
def test_a_state_that_comes_between_look_and_write_is_seen(
    backend: Any, fence: LeaseFence, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is a success of another process; the failure was decided on what was there before."""
    backend.store_result("t1", {}, "PROGRESS")
    write, key = backend._write, backend.get_key_for_task("t1")
    meanwhile = [JSON_OF_A_SUCCESS["another order"]]

    def late(change: Any) -> Any:
        if change.seen is not None and meanwhile:
            backend.client.set(key, meanwhile.pop())
        return write(change)

    monkeypatch.setattr(backend, "_write", late)
    backend.mark_as_failure("t1", ValueError("late"), request=failing(fence))
    assert not meanwhile
    assert backend.get_state("t1") == "SUCCESS"


@on_both
def test_an_answer_that_was_lost_is_no_other_delivery(
    backend: Any, fence: LeaseFence, caplog: pytest.LogCaptureFixture
) -> None:
    """The client sends the script again, which finds its own result and its own end."""
    backend.mark_as_done("t1", 1, asking(fence))
    assert fence.ended is not None
    again = LeaseFence("t1", KEY, fence.held, fence.leases)
    backend.mark_as_done("t1", 1, asking(again))
    assert again.ended is not None
    assert (again.ended.text, again.passed) == (fence.ended.text, False)
    assert "dropped" not in caplog.text


def test_a_value_that_changes_without_end_is_the_store_s_trouble(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, numbers = backend._write, iter(range(99))

    def late(change: Any) -> Any:
        backend.client.set(change.key, json.dumps({"status": "PROGRESS", "n": next(numbers)}))
        return write(change)

    monkeypatch.setattr(backend, "_write", late)
    with pytest.raises(StoreUnavailableError, match="changed 10 times"):
        backend.store_result("t1", None, states.STARTED)


def fail_after(error: Exception, backend: Any) -> None:
    """As Celery's tracer does, where it handles the error."""
    try:
        raise error
    except type(error):
        backend.mark_as_failure("t1", RuntimeError("the same, made picklable"))


def test_what_could_not_be_stored_is_no_failure_of_the_task(
    backend: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Celery makes a failed task of it, and would say so once the store is back."""
    import redis

    def down(*_: Any) -> Any:
        raise redis.ConnectionError("Connection refused")

    with monkeypatch.context() as patch:
        patch.setattr(backend, "ensure", down)
        with pytest.raises(redis.ConnectionError) as caught:
            backend.store_result("t1", None, states.STARTED)
    with pytest.raises(redis.ConnectionError, match="Connection refused"):
        fail_after(caught.value, backend)
    assert backend.get_state("t1") == "PENDING"
    backend.mark_as_failure("t1", redis.ConnectionError("Connection refused"))
    assert backend.get_state("t1") == "FAILURE", "the task's own, this time"
