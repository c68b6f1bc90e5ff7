"""The facts that workers write of themselves, on a real Redis."""

from __future__ import annotations

import json
import threading
import zlib
from typing import TYPE_CHECKING, Any

import pytest
import redis

from twolane.state.redis import RedisStore
from twolane.worker.lease import Delivery, LeaseState, write_lease
from twolane.worker.message import decoded, open_envelope, read_facts
from twolane.worker.presence import INDEX_KEY, PREFIX, Presence, WorkerFacts, task_info

from .conftest import body

if TYPE_CHECKING:
    from collections.abc import Iterator

DAY_S = 24 * 3600


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


@pytest.fixture
def presence(client: Any) -> Presence:
    return Presence(RedisStore(lambda: client))


def test_every_worker_s_facts_are_read_back(presence: Presence) -> None:
    assert presence.everyone() == []
    facts = [
        WorkerFacts(
            "a@h", 1.0, {"pid": 7}, {"t": {"rate_limit": "1/s"}}, {"twolane:lease:1": {"id": "1"}}
        ),
        WorkerFacts("b@h", 2.0),
    ]
    for one in facts:
        presence.enlist(one.hostname, one.seen)
        presence.write(one)
    assert sorted(presence.everyone(), key=lambda one: one.hostname) == facts


def test_an_environment_that_writes_no_more_fades(presence: Presence, client: Any) -> None:
    presence.enlist("a@h", 1.0)
    presence.write(WorkerFacts("a@h", 1.0))
    assert 890 < client.ttl(PREFIX + "a@h") <= 900
    client.delete(PREFIX + "a@h")
    assert presence.everyone() == []


def listed(client: Any) -> set[str]:
    return {name for key in client.keys(f"{INDEX_KEY}:*") for name in json.loads(client.get(key))}


def test_the_list_forgets_after_a_day(presence: Presence, client: Any) -> None:
    same_part = next(name for n in range(999) if part_of(name := f"{n}@h") == part_of("new@h"))
    presence.enlist(same_part, 1_000.0)
    presence.enlist("new@h", 1_001.0 + DAY_S)
    assert listed(client) == {"new@h"}


def part_of(name: str) -> int:
    return zlib.crc32(name.encode()) % 16


def test_a_list_of_many_is_written_in_small_parts(presence: Presence, client: Any) -> None:
    """Each environment that starts writes one part, of a few KB at most."""
    for number in range(600):
        presence.enlist(f"{number}@2026-11-29-[LATEST]-{number:032x}", 5.0 + number)
    sizes = [len(client.get(key)) for key in client.keys(f"{INDEX_KEY}:*")]
    assert len(sizes) == 16
    assert max(sizes) < 8 * 1024
    assert len(listed(client)) == 600


def test_many_that_start_at_once_are_all_listed(redis_url: str, client: Any) -> None:
    start = threading.Barrier(6)

    def enlist(number: int) -> None:
        with redis.Redis.from_url(redis_url) as own:
            start.wait(10)
            Presence(RedisStore(lambda: own)).enlist(f"{number}@h", 5.0)

    threads = [threading.Thread(target=enlist, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(listed(client)) == 6


def test_a_tasks_state_is_its_leases(presence: Presence, client: Any) -> None:
    def lease(state: LeaseState) -> str:
        return write_lease(state, Delivery("h", "m", "p"), since=1.0, until=2.0).text

    client.set("lease:runs", lease(LeaseState.RUNNING))
    client.set("lease:done", lease(LeaseState.DONE))
    told = WorkerFacts("a@h", 1.0, tasks={"lease:runs": {}, "lease:done": {}, "lease:waits": {}})
    assert presence.states([told]) == {
        "lease:runs": "active",
        "lease:done": "ready",
        "lease:waits": "reserved",
    }
    assert presence.states([]) == {}


def told(text: str, *, with_args: bool = True) -> dict[str, Any]:
    envelope = open_envelope(text)
    return task_info(
        envelope, read_facts(envelope, lambda one: decoded(one, {"application/json"})),
        hostname="a@h", now=5.0, with_args=with_args, redelivered=True,
    )  # fmt: skip


def test_a_task_is_shown_as_celerys_request_shows_it() -> None:
    facts = told(body("shop.add", 1, 2, task_id="t1", kwargs={"k": 3}))
    assert (facts["id"], facts["name"], facts["type"]) == ("t1", "shop.add", "shop.add")
    assert (facts["args"], facts["kwargs"]) == ([1, 2], {"k": 3})
    assert facts["delivery_info"]["redelivered"] is True
    assert facts["delivery_info"]["routing_key"] == "tasks"


def test_a_task_of_protocol_1_is_shown_the_same() -> None:
    text = json.loads(body("shop.add", task_id="t1"))
    content = {"task": "shop.add", "id": "t1", "args": [1], "kwargs": {}}
    facts = told(json.dumps({**text, "headers": {}, "body": json.dumps(content)}))
    assert (facts["id"], facts["type"], facts["args"]) == ("t1", "shop.add", [1])


def test_arguments_are_shown_only_if_results_show_them() -> None:
    facts = told(body("shop.add", "secret", task_id="t1"), with_args=False)
    assert "secret" not in json.dumps(facts)


def test_big_arguments_are_shown_as_their_text() -> None:
    facts = told(body("shop.add", "x" * 5000, task_id="t1", argsrepr="('xxx...',)"))
    assert facts["args"] == "('xxx...',)"


def test_a_worker_writes_no_more_than_an_item_holds(presence: Presence, client: Any) -> None:
    tasks = {f"lease:{number}": {"args": "x" * 1000} for number in range(1000)}
    registered = {f"t{number}": {"name": "x" * 1000} for number in range(1000)}
    presence.enlist("a@h", 1.0)
    presence.write(WorkerFacts("a@h", 1.0, {"pid": 7}, registered, tasks))
    (facts,) = presence.everyone()
    assert client.strlen(PREFIX + "a@h") < 400_000
    assert 50 < len(facts.tasks) < 1000
    assert 50 < len(facts.registered) < 1000
