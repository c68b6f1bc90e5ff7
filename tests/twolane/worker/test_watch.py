"""The thread that stops what was revoked while it runs."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from twolane.errors import StoreUnavailableError
from twolane.state.memory import MemoryStore
from twolane.worker.limits import TaskTerminated
from twolane.worker.lookup import Revocation, Watch, revoked_key, write_revocation

if TYPE_CHECKING:
    from collections.abc import Callable


class Interrupter:
    def __init__(self) -> None:
        self.raised: list[type[BaseException]] = []
        self.happened = threading.Event()

    def interrupt(self, error: type[BaseException]) -> None:
        self.raised.append(error)
        self.happened.set()


@pytest.fixture
def interrupter() -> Interrupter:
    return Interrupter()


def revoke(store: MemoryStore, *, terminate: bool) -> None:
    store.put(revoked_key("t1"), write_revocation(Revocation(terminate=terminate)), ttl_s=60)


def test_a_task_is_asked_about_once_it_has_lasted(
    store: MemoryStore, interrupter: Interrupter
) -> None:
    watch = Watch(store)
    revoke(store, terminate=True)
    watch.begin("t1", interrupter)
    watch.look()
    assert interrupter.raised == []
    watch.look()
    assert interrupter.raised == [TaskTerminated]


def test_a_revoke_without_terminate_lets_it_run(
    store: MemoryStore, interrupter: Interrupter
) -> None:
    watch = Watch(store)
    revoke(store, terminate=False)
    watch.begin("t1", interrupter)
    for _ in range(3):
        watch.look()
    assert interrupter.raised == []


def test_a_task_that_has_ended_is_left_alone(store: MemoryStore, interrupter: Interrupter) -> None:
    watch = Watch(store)
    revoke(store, terminate=True)
    running = watch.begin("t1", interrupter)
    watch.look()
    watch.end(running)
    watch.look()
    assert interrupter.raised == []


def test_of_several_tasks_the_revoked_one_is_stopped(
    store: MemoryStore, interrupter: Interrupter
) -> None:
    watch, other = Watch(store), Interrupter()
    revoke(store, terminate=True)
    ended = watch.begin("t0", other)
    watch.begin("t1", interrupter)
    watch.begin("t2", other)
    watch.end(ended)
    watch.look()
    watch.look()
    assert (interrupter.raised, other.raised) == ([TaskTerminated], [])


def test_one_that_ends_while_the_store_is_asked_is_left_alone(interrupter: Interrupter) -> None:
    class Slow(MemoryStore):
        def get_many(self, keys: object) -> dict[str, str]:
            watch.end(running)
            return {revoked_key("t1"): write_revocation(Revocation(terminate=True))}

    watch = Watch(Slow())
    running = watch.begin("t1", interrupter)
    watch.look()
    watch.look()
    assert interrupter.raised == []


def test_a_store_that_is_down_stops_nothing(
    interrupter: Interrupter, caplog: pytest.LogCaptureFixture
) -> None:
    class Down(MemoryStore):
        def get_many(self, keys: object) -> dict[str, str]:
            raise StoreUnavailableError("down")

    def told() -> None:
        raise StoreUnavailableError("cannot tell")

    watch = Watch(Down(), each_time=told)
    watch.begin("t1", interrupter)
    watch.look()
    watch.look()
    assert interrupter.raised == []
    assert "cannot tell" in caplog.text
    assert "down" in caplog.text


def test_the_thread_looks_while_a_batch_runs(store: MemoryStore, interrupter: Interrupter) -> None:
    looked = threading.Semaphore(0)
    watch = Watch(store, interval_s=0.01, each_time=looked.release)
    watch.wake()
    assert looked.acquire(timeout=10)
    revoke(store, terminate=True)
    running = watch.begin("t1", interrupter)
    assert interrupter.happened.wait(10)
    watch.end(running)
    watch.rest()
    assert [thread.name for thread in threading.enumerate()].count("twolane-watch") >= 1


def test_another_way_to_look_needs_no_thread(store: MemoryStore, interrupter: Interrupter) -> None:
    asked: list[float] = []
    looks: list[Callable[[], object]] = []

    def each(interval_s: float, look: Callable[[], object]) -> Callable[[], object]:
        asked.append(interval_s)
        looks.append(look)
        return looks.clear

    watch = Watch(store, interval_s=0.5)
    watch.wake(each)
    revoke(store, terminate=True)
    watch.begin("t1", interrupter)
    for _ in range(2):
        looks[0]()
    assert [error.__name__ for error in interrupter.raised] == ["TaskTerminated"]
    watch.rest()
    assert (asked, looks) == ([0.5], [])
    assert watch._thread is None
