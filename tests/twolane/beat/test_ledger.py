from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from twolane.beat.ledger import Claim, Ledger, LedgerStore, Record, Texts, dump, load
from twolane.errors import StoreUnavailableError
from twolane.state.memory import MemoryStore
from twolane.state.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEDGER = Ledger(
    {
        "a": Record("f1", 100.0, 160.0, 100.0),
        "b": Record("f2", 100.25, None, None),
        'ü\n"c': Record("f3", 100.0, 200.5, 40.0),
    },
    (Claim("id", "a", 100.0, 130.5),),
)


def test_the_text() -> None:
    written = json.loads(dump(LEDGER))
    assert written.pop("id") != json.loads(dump(LEDGER))["id"]
    assert written == {
        "v": 1,
        "entries": {
            "a": ["f1", 100, 160],
            "b": ["f2", 100.25, None, None],
            'ü\n"c': ["f3", 100, 200.5, 40],
        },
        "outbox": [["id", "a", 100.0, 130.5]],
    }


def test_there_and_back() -> None:
    assert load(dump(LEDGER)) == LEDGER
    assert load(dump(Ledger())) == Ledger()


def test_texts_that_are_known_are_not_made_again() -> None:
    known = Texts()
    first = dump(LEDGER, known)
    changed = Ledger({**LEDGER.records, "a": Record("f1", 160.0, 220.0, 160.0)}, ())
    assert load(dump(changed, known)) == changed
    assert load(dump(LEDGER, known)) == load(first) == LEDGER


@pytest.fixture(params=["memory", "redis"])
def open_ledger(request: pytest.FixtureRequest) -> Iterator[Callable[[], LedgerStore]]:
    """Ledgers on one store, as two execution environments have them."""
    if request.param == "memory":
        memory = MemoryStore()
        yield lambda: LedgerStore(memory, "shop")
        return
    import redis

    clients = [redis.Redis.from_url(request.getfixturevalue("redis_url")) for _ in range(2)]
    waiting = iter(clients)
    yield lambda: LedgerStore(RedisStore(lambda: next(waiting)), "shop")
    for client in clients:
        client.close()


def test_a_change_is_seen_by_the_other(open_ledger: Callable[[], LedgerStore]) -> None:
    one, other = open_ledger(), open_ledger()
    assert one.read() == Ledger()
    one.change(lambda _: LEDGER)
    assert other.read() == LEDGER


def test_a_change_begins_again_where_another_came_between(
    open_ledger: Callable[[], LedgerStore],
) -> None:
    one, other = open_ledger(), open_ledger()
    seen: list[Ledger] = []

    def step(ledger: Ledger) -> Ledger:
        if not seen:
            other.change(lambda _: LEDGER)
        seen.append(ledger)
        return ledger.without(["id"])

    one.change(step)
    assert seen == [Ledger(), LEDGER]
    assert other.read() == Ledger(LEDGER.records, ())


def test_a_change_by_what_was_last_seen_notices_what_it_did_not_see(
    open_ledger: Callable[[], LedgerStore],
) -> None:
    one, other = open_ledger(), open_ledger()
    one.change(lambda _: LEDGER)
    other.change(lambda ledger: ledger.without(["id"]))
    more = Claim("more", "a", 160.0, 190.0)
    one.change(lambda ledger: Ledger(ledger.records, (*ledger.outbox, more)))
    assert other.read().outbox == (more,)


def test_that_there_is_nothing_to_write_is_said_of_the_ledger_as_it_stands(
    open_ledger: Callable[[], LedgerStore],
) -> None:
    one, other = open_ledger(), open_ledger()
    one.change(lambda _: LEDGER)
    other.change(lambda ledger: ledger.without(["id"]))
    seen: list[Ledger] = []

    def look(ledger: Ledger) -> None:
        seen.append(ledger)

    one.change(look)
    assert seen == [LEDGER, LEDGER.without(["id"])]


def test_nothing_to_write() -> None:
    store = MemoryStore()
    LedgerStore(store, "shop").change(lambda _: None)
    assert store._items == {}


def test_a_ledger_that_never_stands_still() -> None:
    store = MemoryStore()
    one, other = LedgerStore(store, "shop"), LedgerStore(store, "shop")
    count = iter(range(1000))

    def step(ledger: Ledger) -> Ledger:
        other.change(lambda _: Ledger({"n": Record("f", float(next(count)), None)}))
        return LEDGER

    with pytest.raises(StoreUnavailableError, match="the next tick catches up"):
        one.change(step)


def test_apps_do_not_share_a_ledger() -> None:
    store = MemoryStore()
    LedgerStore(store, "shop").change(lambda _: LEDGER)
    assert LedgerStore(store, "mail").read() == Ledger()
