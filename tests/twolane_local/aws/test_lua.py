"""Scripts in the embedded store."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
import redis

from twolane_local.aws import lua

SCRIPTS: list[tuple[str, int, tuple[str, ...]]] = [
    ("return {KEYS[1], ARGV[1], ARGV[2]}", 1, ("key", "a", "b")),
    ("return {KEYS[1], ARGV[1], ARGV[2]}", 1, ("other", "c")),
    ("return redis.call('SET', KEYS[1], ARGV[1])", 1, ("key", "value")),
    ("local found = redis.call('GET', KEYS[1]) return found", 1, ("key",)),
    ("return redis.call('GET', KEYS[1])", 1, ("missing",)),
    ("return redis.call('MGET', KEYS[1], KEYS[2])", 2, ("key", "missing")),
    ("return redis.status_reply('FINE')", 0, ()),
    ("return redis.error_reply('ERR not like that')", 0, ()),
    ("return redis.pcall('INCR', KEYS[1])['err'] ~= nil", 1, ("key",)),
    ("return redis.call('INCR', KEYS[1])", 1, ("key",)),
    ("return cjson.encode({a = cjson.decode(ARGV[1])})", 0, ('{"b": 1}',)),
    ("return tostring(nothing)", 0, ()),
    ("return {1, 2.9, 'three', false, 'five'}", 0, ()),
]


@pytest.fixture
def client() -> Any:
    return fakeredis.FakeStrictRedis(server=lua.compile_once(fakeredis.FakeServer()))


def answers(client: Any) -> list[str]:
    found = []
    for script, keys, values in SCRIPTS * 2:
        try:
            found.append(repr(client.eval(script, keys, *values)))
        except redis.ResponseError as error:
            found.append(f"error {error}")
    return found


def compiled(client: Any) -> dict[bytes, Any]:
    server: Any = client.connection_pool.connection_kwargs["server"]
    found: dict[bytes, Any] = server._lua_runtime._compiled
    return found


def test_scripts_are_answered_as_by_the_stock_server(client: Any) -> None:
    assert answers(client) == answers(fakeredis.FakeStrictRedis(server=fakeredis.FakeServer()))


def test_a_script_is_compiled_once(client: Any) -> None:
    kept = compiled(client)
    for number in range(3):
        assert client.eval("return ARGV[1]", 0, number) == str(number).encode()
    first = kept[b"return ARGV[1]"]
    client.eval("return ARGV[1]", 0, "again")
    assert kept[b"return ARGV[1]"] is first


def test_scripts_that_are_never_the_same_are_not_all_kept(client: Any) -> None:
    kept = compiled(client)
    for number in range(500):
        assert client.eval(f"return {number}", 0) == number
    assert len(kept) <= 200


@pytest.mark.parametrize("script", ["made = 1", "function made() end", "made = redis.call('PING')"])
def test_a_script_makes_no_global(client: Any, script: str, redis_url: str) -> None:
    with pytest.raises(redis.ResponseError, match="global variable made"):
        client.eval(script, 0)
    assert client.eval("return tostring(made)", 0) == b"nil"
    with redis.Redis.from_url(redis_url) as real, pytest.raises(redis.ResponseError):
        real.eval(script, 0)


def test_what_was_done_before_a_script_failed_stays_done(client: Any) -> None:
    with pytest.raises(redis.ResponseError):
        client.eval("redis.call('SET', KEYS[1], 'done') error('then')", 1, "key")
    assert client.get("key") == b"done"


def test_the_process_s_other_servers_keep_the_stock_runtime(client: Any) -> None:
    other = fakeredis.FakeStrictRedis(server=fakeredis.FakeServer())
    with pytest.raises(redis.ResponseError, match="Script attempted to set global variables"):
        other.eval("made = 1", 0)
