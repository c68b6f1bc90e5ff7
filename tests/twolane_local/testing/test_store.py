"""The embedded Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import redis

from twolane_local.faults import Faults
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
