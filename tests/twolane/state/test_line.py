"""One connection for many commands, on a real Redis: what it saves, and what must not go wrong."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
from redis.exceptions import ConnectionError as LostConnectionError
from redis.exceptions import ResponseError

from twolane.state.redis import call, kept_connection, run

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def client(redis_url: str) -> Iterator[Any]:
    with redis.Redis.from_url(redis_url) as client:
        yield client


def connection_id(client: Any) -> int:
    return int(call(client, "CLIENT", "ID"))


def test_all_commands_of_a_batch_go_over_one_connection(client: Any) -> None:
    with kept_connection(client):
        assert call(client, "SET", "a", "ü", "PX", 60_000, "NX") == b"OK"
        assert call(client, "SET", "a", "b", "PX", 60_000, "NX") is None
        first, aside = connection_id(client), int(client.client_id())
        assert connection_id(client) == first != aside
    assert client.get("a").decode() == "ü"


def test_it_goes_back_to_the_pool(client: Any) -> None:
    with kept_connection(client):
        kept = connection_id(client)
    assert int(client.client_id()) == kept


def test_without_a_kept_connection_the_client_is_asked(client: Any) -> None:
    assert call(client, "ECHO", "x") == b"x"


def test_a_refusal_is_raised_and_the_connection_stays(client: Any) -> None:
    with kept_connection(client):
        kept = connection_id(client)
        with pytest.raises(ResponseError):
            call(client, "NOSUCHCOMMAND")
        assert connection_id(client) == kept


@pytest.mark.usefixtures("real_redis")
def test_a_connection_that_was_lost_is_made_again(client: Any, redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as other, kept_connection(client):
        other.client_kill_filter(_id=str(connection_id(client)))
        assert call(client, "ECHO", "x") == b"x"
        assert call(client, "ECHO", "y") == b"y"


def test_a_reply_that_nobody_waited_for_is_not_the_next_commands(client: Any) -> None:
    class TimeUp(BaseException):
        pass

    def strike(*_: object) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, strike)
    try:
        with kept_connection(client):
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(TimeUp):
                call(client, "BLPOP", "never", "0.3")
            client.rpush("never", "stale")
            assert call(client, "ECHO", "mine") == b"mine"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_another_thread_has_a_connection_of_its_own(client: Any) -> None:
    seen: list[int] = []
    with kept_connection(client):
        kept = connection_id(client)
        thread = threading.Thread(target=lambda: seen.append(connection_id(client)))
        thread.start()
        thread.join(10)
    assert len(seen) == 1
    assert seen[0] != kept


def test_another_client_is_asked_by_itself(client: Any, redis_url: str) -> None:
    with redis.Redis.from_url(f"{redis_url[:-1]}1") as other, kept_connection(client):
        call(other, "SET", "here", "1")
        assert client.get("here") is None
        assert other.get("here") == b"1"


def test_a_script_that_the_server_forgot_is_sent_again(client: Any) -> None:
    script = client.register_script("return {KEYS[1], ARGV[1]}")
    with kept_connection(client):
        for _ in range(2):
            client.script_flush()
            assert run(script, ["k"], ["v"]) == [b"k", b"v"]


def test_without_a_server_the_first_command_says_so(closed: str) -> None:
    with (
        redis.Redis.from_url(closed) as client,
        kept_connection(client),
        pytest.raises(LostConnectionError),
    ):
        call(client, "PING")


@pytest.fixture
def closed() -> str:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{probe.getsockname()[1]}/0?retry_on_error=&socket_timeout=1"
