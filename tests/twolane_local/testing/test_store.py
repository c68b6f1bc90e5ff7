"""The embedded Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import fakeredis
import pytest
import redis

from twolane_local.faults.injection import Faults
from twolane_local.journal import Journal
from twolane_local.testing import store

if TYPE_CHECKING:
    from twolane_local.testing.stack import Twolane


def faults() -> Faults:
    clock: Any = None  # nothing is armed
    return Faults(Journal(clock), clock)


def test_keys_expire_in_virtual_time(stack: Twolane) -> None:
    client = redis.Redis.from_url(store.URL)
    client.set("key", "value", ex=3600)
    stack.clock.advance(3599)
    assert client.get("key") == b"value"
    stack.clock.advance(2)
    assert client.get("key") is None


def test_a_client_from_before_is_led_there_too() -> None:
    client = redis.Redis.from_url(store.URL, retry=None, socket_connect_timeout=1)
    with pytest.raises(redis.ConnectionError):
        client.ping()
    with store.embedded(faults()):
        client.set("key", "value")
        assert client.eval("return redis.call('GET', KEYS[1])", 1, "key") == b"value"
    with store.embedded(faults()):
        assert client.get("key") is None


def test_other_servers_are_left_alone(redis_url: str) -> None:
    with store.embedded(faults()), redis.Redis.from_url(redis_url) as client:
        client.set("key", "real")
        assert client.info("server")["tcp_port"] == int(redis_url.rpartition(":")[2].split("/")[0])


COMMANDS: list[tuple[Any, ...]] = [
    ("SET", "text", "ä ö"),
    ("SET", b"bytes", b"\r\n*1\r\n"),
    ("SET", "number", 1.5),
    ("GET", "text"),
    ("MGET", "text", "bytes", "number", "none"),
    ("CONFIG GET", "maxmemory"),
    (b"CLIENT GETNAME",),
    ("SET", "long", "x" * 100_000),
    ("STRLEN", "long"),
    ("EVAL", "return {KEYS[1], ARGV[1], redis.call('GET', KEYS[1])}", 1, "number", "a"),
    ("EVAL", "return redis.call('NO SUCH COMMAND')", 0),
    ("INCR", "text"),
    ("NO SUCH COMMAND",),
    ("GET",),
]


def test_commands_are_answered_as_by_the_stock_connection(stack: Twolane) -> None:
    def answers(client: Any) -> list[str]:
        found = []
        for command in COMMANDS:
            try:
                found.append(repr(client.execute_command(*command)))
            except redis.ResponseError as error:
                found.append(f"error {error}")
        return found

    ours = answers(redis.Redis.from_url(store.URL))
    store.clear()
    assert ours == answers(fakeredis.FakeStrictRedis(server=store.server()))


def test_a_connection_that_the_server_has_ended_is_lost(stack: Twolane) -> None:
    one, other = (redis.Redis.from_url(store.URL, retry=None) for _ in range(2))
    identity = one.client_id()
    other.execute_command("CLIENT KILL", "ID", identity)
    with pytest.raises(redis.ConnectionError):
        one.set("key", "value")
    assert one.client_id() != identity
