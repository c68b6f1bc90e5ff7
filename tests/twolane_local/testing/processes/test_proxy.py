"""A proxy that cuts connections, before a real Redis."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from twolane_local.testing.processes.live import Proxy

if TYPE_CHECKING:
    from collections.abc import Callable


def through(redis_url: str, script: Callable[[Any, Proxy], object]) -> Proxy:
    port = int(redis_url.rpartition(":")[2].partition("/")[0])

    async def main() -> Proxy:
        async with Proxy("127.0.0.1", port) as proxy:
            client = redis.Redis(port=proxy.port, retry=Retry(NoBackoff(), 0), socket_timeout=5)
            await asyncio.to_thread(script, client, proxy)
            client.close()
        return proxy

    return asyncio.run(main())


def test_what_is_not_cut_gets_through(redis_url: str) -> None:
    def script(client: Any, _: Proxy) -> None:
        client.set("a", "x" * 200_000)
        assert len(client.get("a")) == 200_000

    through(redis_url, script)


def test_an_answer_is_lost_and_the_work_is_done(redis_url: str) -> None:
    def script(client: Any, proxy: Proxy) -> None:
        proxy.cut_answers(b"INCR")
        with pytest.raises(redis.ConnectionError):
            client.execute_command("INCR", "count")
        assert client.get("count") == b"1"
        assert client.execute_command("INCR", "count") == 2

    assert through(redis_url, script).cuts == 1


def test_nobody_gets_through_while_it_is_down(redis_url: str) -> None:
    def script(client: Any, proxy: Proxy) -> None:
        client.ping()
        proxy.down = True
        for _ in range(2):
            with pytest.raises(redis.ConnectionError):
                client.ping()
        proxy.down = False
        assert client.ping()

    assert through(redis_url, script).refused >= 1


def test_a_route_that_is_no_more_says_nothing(redis_url: str) -> None:
    def script(client: Any, proxy: Proxy) -> None:
        client.set("a", 1)
        proxy.silence_after(b"INCR")
        impatient = redis.Redis(
            port=proxy.port, retry=Retry(NoBackoff(), 0), socket_timeout=0.2, protocol=2
        )
        with pytest.raises(redis.TimeoutError):
            impatient.execute_command("INCR", "a")
        with pytest.raises(redis.TimeoutError):
            impatient.get("a")
        proxy.speak()
        assert impatient.get("a") == b"1"
        impatient.close()

    assert through(redis_url, script).refused == 0
