"""Commands to a Redis in this process that fail, take long or are lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fakeredis
import pytest
import redis

from twolane_local.faults.injection import Faults
from twolane_local.journal import Journal
from twolane_local.testing.stores import FaultyCommands
from twolane_local.testing.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = "celery-task-meta-1"
PREFIXED = "{mine}:twolane:lease:1"


def packed(*words: str) -> bytes:
    """https://redis.io/docs/latest/develop/reference/protocol-spec/"""
    parts = "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    return f"*{len(words)}\r\n{parts}".encode()


class Store:
    """A server, its seam, and what a process does with it in virtual time."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.plain: Any = fakeredis.FakeStrictRedis()
        self.plain.flushall()
        self.faults = Faults(Journal(world.clock), world.clock)
        self.changed: list[str] = []
        self.lost: list[str] = []
        self.seam = FaultyCommands(
            self.faults, self.plain, changed=self.changed.append, lost=self.lost.append
        )

    def set(self, key: str, value: str) -> Any:
        send = lambda: self.plain.set(key, value)  # noqa: E731
        return self.in_process(lambda: self.seam.call(packed("SET", key, value), send))

    def in_process(self, work: Callable[[], Any]) -> Any:
        from twolane_local.clock.threads import Process

        process = Process(self.world.loop)

        async def run() -> Any:
            return await process.run(work)

        try:
            return self.world.run(run())
        finally:
            process.close()


@pytest.fixture
def store() -> Iterator[Store]:
    world = World()
    yield Store(world)
    world.close()


def test_a_store_that_is_down(store: Store) -> None:
    store.faults.inject("store.down", target="SET *")
    with pytest.raises(redis.ConnectionError):
        store.set(KEY, "1")
    assert store.plain.get(KEY) is None
    store.set(KEY, "2")
    assert store.plain.get(KEY) == b"2"


def test_a_slow_store(store: Store) -> None:
    began = store.world.now
    store.faults.inject("store.slow", seconds=7)
    store.set(KEY, "1")
    assert store.world.now - began == pytest.approx(7)


@pytest.mark.parametrize("key", [KEY, PREFIXED])
def test_a_lost_write_leaves_what_was_there(store: Store, key: str) -> None:
    store.set(key, "1")
    store.faults.inject("store.lost-write", target=f"SET {key}")
    store.set(key, "2")
    assert store.plain.get(key) == b"1"
    assert store.lost == [key]


def test_a_lost_first_write_leaves_nothing(store: Store) -> None:
    store.faults.inject("store.lost-write")
    store.set(KEY, "1")
    assert store.plain.get(KEY) is None


def test_a_lost_answer(store: Store) -> None:
    store.faults.inject("store.reply-lost")
    with pytest.raises(redis.TimeoutError):
        store.set(KEY, "1")
    assert store.plain.get(KEY) == b"1"


def test_whoever_watches_hears_of_leases_and_results(store: Store) -> None:
    store.set(KEY, "1")
    store.set(PREFIXED, "1")
    store.set("other", "1")
    assert store.changed == [KEY, PREFIXED]


def test_outside_of_a_process_nothing_goes_wrong(store: Store) -> None:
    store.faults.inject("store.down")
    assert store.seam.call(packed("GET", KEY), lambda: "answer") == "answer"


def test_without_anything_armed_there_is_nothing_to_do(store: Store) -> None:
    seam = FaultyCommands(store.faults, store.plain)
    assert seam.idle
    store.faults.inject("store.down")
    assert not seam.idle
    store.faults.clear()
    assert seam.idle


def test_a_finalizer_s_command_is_no_occasion(store: Store) -> None:
    """Not even in an environment that is gone: it would be raised where nobody can catch it."""
    from twolane_local.clock.threads import current

    store.faults.inject("store.down", count=0)

    def dead() -> Any:
        process = current.get()
        assert process is not None
        process.dead = True
        return store.seam.call(packed("UNSUBSCRIBE", KEY), lambda: "sent")

    assert store.in_process(dead) == "sent"
    assert store.faults.fired("store.down") == 0
