"""What every state store promises, asked of each one: memory, a real Redis, DynamoDB on moto."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import pytest

from twolane.errors import StoreUnavailableError
from twolane.state.dynamodb import DynamoDBStore
from twolane.state.memory import MemoryStore
from twolane.state.redis import RedisStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twolane.state import StateStore


class Hands:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(params=["memory", "redis", "dynamodb"])
def store(request: pytest.FixtureRequest) -> Iterator[StateStore]:
    if request.param == "memory":
        yield MemoryStore()
    elif request.param == "redis":
        import redis

        with redis.Redis.from_url(request.getfixturevalue("redis_url")) as client:
            yield RedisStore(lambda: client)
    else:
        client = request.getfixturevalue("results_table")
        yield DynamoDBStore("results", lambda: client)


def test_put_then_get(store: StateStore) -> None:
    store.put("a", "1", ttl_s=60)
    store.put("b", "ü", ttl_s=60)
    store.put("a", "2", ttl_s=60)
    assert store.get_many(["a", "b", "c"]) == {"a": "2", "b": "ü"}
    assert store.get_many([]) == {}


def test_get_many_beyond_one_round_trip(store: StateStore) -> None:
    keys = [f"k{number}" for number in range(230)]
    for key in keys:
        store.put(key, key, ttl_s=60)
    assert store.get_many([*keys, "none"]) == {key: key for key in keys}


def test_several_are_added_side_by_side_where_nothing_stands(store: StateStore) -> None:
    store.put("k3", "there", ttl_s=60)
    wanted = {f"k{number}": f"v{number}" for number in range(12)}
    written = store.add_many(wanted, ttl_s=60, side_by_side=True)
    assert written == wanted.keys() - {"k3"}
    assert store.get_many(wanted) == {**wanted, "k3": "there"}


def test_swap_of_an_absent_key_writes_once(store: StateStore) -> None:
    assert store.swap("k", None, "mine", ttl_s=60) is None
    assert store.swap("k", None, "yours", ttl_s=60) == "mine"
    assert store.get_many(["k"]) == {"k": "mine"}


def test_swap_of_an_expected_value(store: StateStore) -> None:
    store.put("k", "old", ttl_s=60)
    assert store.swap("k", "other", "new", ttl_s=60) == "old"
    assert store.swap("k", "old", "new", ttl_s=60) is None
    assert store.swap("gone", "old", "new", ttl_s=60) == ""
    assert store.get_many(["k", "gone"]) == {"k": "new"}


def test_swap_by_what_tells_long_values_apart(store: StateStore) -> None:
    store.put("k", "1:" + "x" * 50_000, ttl_s=60)
    assert store.swap("k", "2:any", "3:new", ttl_s=60, head=2) == "1:" + "x" * 50_000
    assert store.swap("k", "1:any", "3:new", ttl_s=60, head=2) is None
    assert store.swap("k", "3", "4:new", ttl_s=60) == "3:new"
    assert store.swap("gone", "3:new", "4:new", ttl_s=60, head=2) == ""
    assert store.swap("k", None, "4:new", ttl_s=60, head=2) == "3:new"


def test_delete(store: StateStore) -> None:
    store.put("k", "v", ttl_s=60)
    assert store.delete("k", expected="other") is False
    assert store.delete("k", expected="v") is True
    assert store.delete("k") is False
    store.put("k", "v", ttl_s=60)
    assert store.delete("k") is True
    assert store.get_many(["k"]) == {}


def test_one_of_many_threads_wins(store: StateStore) -> None:
    start = threading.Barrier(8)
    outcomes: list[str | None] = []

    def contend(name: str) -> None:
        start.wait(10)
        outcomes.append(store.swap("k", None, name, ttl_s=60))

    threads = [threading.Thread(target=contend, args=(f"t{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert outcomes.count(None) == 1
    winner = store.get_many(["k"])["k"]
    assert sorted(set(outcomes) - {None}) in ([winner], [])  # type: ignore[type-var]


@pytest.fixture(params=["memory", "dynamodb"])
def clocked(request: pytest.FixtureRequest) -> tuple[StateStore, Hands]:
    hands = Hands()
    if request.param == "memory":
        return MemoryStore(hands), hands
    client = request.getfixturevalue("results_table")
    return DynamoDBStore("results", lambda: client, hands), hands


def test_an_expired_value_is_absent(clocked: tuple[StateStore, Hands]) -> None:
    store, hands = clocked
    store.put("a", "1", ttl_s=10)
    store.put("b", "1", ttl_s=30)
    hands.now += 10
    assert store.get_many(["a", "b"]) == {"b": "1"}
    assert store.swap("a", "1", "2", ttl_s=10) == ""
    assert store.delete("a") is False
    assert store.swap("a", None, "2", ttl_s=10) is None
    assert store.get_many(["a"]) == {"a": "2"}


def test_redis_expires_by_itself(redis_url: str) -> None:
    import redis

    with redis.Redis.from_url(redis_url) as client:
        store = RedisStore(lambda: client)
        store.put("a", "1", ttl_s=0.5)
        store.swap("b", None, "1", ttl_s=20)
        assert 0 < client.pttl("a") <= 500
        assert 19_000 < client.pttl("b") <= 20_000
        store.swap("b", "1", "2", ttl_s=40)
        assert 39_000 < client.pttl("b") <= 40_000


def test_dynamodb_items_carry_celerys_ttl_attribute(results_table: Any) -> None:
    DynamoDBStore("results", lambda: results_table, Hands()).put("a", "1", ttl_s=0.5)
    assert results_table.get_item(TableName="results", Key={"id": {"S": "a"}})["Item"] == {
        "id": {"S": "a"},
        "state": {"S": "1"},
        "until": {"N": "1800000000.5"},
        "ttl": {"N": "1800000001"},
    }


def unreachable_redis() -> StateStore:
    import redis

    return RedisStore(lambda: redis.Redis(host="127.0.0.1", port=1, retry=None))


def missing_table(results_table: Any) -> StateStore:
    return DynamoDBStore("missing", lambda: results_table)


CALLS: list[Callable[[StateStore], object]] = [
    lambda store: store.get_many(["k"]),
    lambda store: store.put("k", "v", ttl_s=1),
    lambda store: store.swap("k", None, "v", ttl_s=1),
    lambda store: store.swap("k", "v", "w", ttl_s=1),
    lambda store: store.delete("k"),
    lambda store: store.delete("k", expected="v"),
]


@pytest.mark.parametrize("call", CALLS)
def test_redis_that_does_not_answer(call: Callable[[StateStore], object]) -> None:
    with pytest.raises(StoreUnavailableError, match="nothing is lost"):
        call(unreachable_redis())


@pytest.mark.parametrize("call", CALLS)
def test_dynamodb_that_does_not_answer(
    call: Callable[[StateStore], object], results_table: Any
) -> None:
    with pytest.raises(StoreUnavailableError, match="table missing"):
        call(missing_table(results_table))


def test_keys_that_dynamodb_left_unread_are_asked_for_again(results_table: Any) -> None:
    """https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html"""
    store = DynamoDBStore("results", lambda: results_table)
    keys = ["a", "b", "c"]
    for key in keys:
        store.put(key, key, ttl_s=60)
    calls: list[int] = []

    def leave_all_but_one(parsed: dict[str, Any], **_: Any) -> None:
        items = parsed["Responses"]["results"]
        calls.append(len(items))
        left = [{"id": item["id"]} for item in items[1:]]
        del items[1:]
        if left:
            parsed["UnprocessedKeys"] = {"results": {"Keys": left, "ConsistentRead": True}}

    results_table.meta.events.register("after-call.dynamodb.BatchGetItem", leave_all_but_one)
    try:
        assert store.get_many(keys) == {key: key for key in keys}
    finally:
        results_table.meta.events.unregister("after-call.dynamodb.BatchGetItem", leave_all_but_one)
    assert calls == [3, 2, 1]


def test_keys_that_stay_unread_are_not_asked_for_for_ever(results_table: Any) -> None:
    waits: list[float] = []
    store = DynamoDBStore("results", lambda: results_table, sleep=waits.append)

    def leave_all(parsed: dict[str, Any], **_: Any) -> None:
        del parsed["Responses"]["results"]
        keys = [{"id": {"S": "a"}}]
        parsed["UnprocessedKeys"] = {"results": {"Keys": keys, "ConsistentRead": True}}

    results_table.meta.events.register("after-call.dynamodb.BatchGetItem", leave_all)
    try:
        with pytest.raises(StoreUnavailableError, match="left keys unread 30 times"):
            store.get_many(["a"])
    finally:
        results_table.meta.events.unregister("after-call.dynamodb.BatchGetItem", leave_all)
    assert len(waits) == 30
    assert max(waits) <= 1
