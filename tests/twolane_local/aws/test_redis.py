from __future__ import annotations

import asyncio
import os
import shutil
from typing import TYPE_CHECKING

import pytest
import redis

from twolane_local.aws import redis as store
from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from pathlib import Path


def write_and_read(url: str) -> bytes:
    with redis.Redis.from_url(url) as client:
        client.set("key", "value", ex=60)
        value = client.get("key")
    assert isinstance(value, bytes)
    return value


def test_a_given_redis_is_used_and_left_alone(redis_url: str) -> None:
    async def main() -> None:
        opened = await store.open_store(redis_url)
        assert (opened.kind, opened.url) == ("given", redis_url)
        await opened.stop()

    asyncio.run(main())
    assert write_and_read(redis_url) == b"value"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("redis://127.0.0.1:1/0", "no Redis answers at redis://127.0.0.1:1/0"),
        ("http://localhost", "is not a Redis URL"),
    ],
)
def test_a_given_redis_that_does_not_answer(url: str, words: str) -> None:
    with pytest.raises(LocalError, match=words):
        asyncio.run(store.open_store(url))


def test_a_password_is_never_shown() -> None:
    with pytest.raises(LocalError) as caught:
        asyncio.run(store.open_store("redis://user:secret@127.0.0.1:1/0"))
    assert "secret" not in str(caught.value)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_a_child_process_that_leaves_nothing_behind() -> None:
    async def main() -> int:
        opened = await store.open_store(None)
        assert opened.kind == "redis-server"
        assert await asyncio.to_thread(write_and_read, opened.url) == b"value"
        pid = opened._process.pid  # type: ignore[attr-defined]
        await opened.stop()
        return int(pid)

    with pytest.raises(ProcessLookupError):
        os.kill(asyncio.run(main()), 0)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="redis-server is not installed")
def test_a_directory_keeps_the_data(tmp_path: Path) -> None:
    async def main() -> None:
        opened = await store.open_store(None, directory=tmp_path)
        await asyncio.to_thread(write_and_read, opened.url)
        opened._process.kill()  # type: ignore[attr-defined]
        await opened.stop()
        again = await store.open_store(None, directory=tmp_path)

        def read() -> object:
            with redis.Redis.from_url(again.url) as client:
                return client.get("key")

        assert await asyncio.to_thread(read) == b"value"
        await again.stop()

    asyncio.run(main())


def test_the_embedded_server_stands_in_where_there_is_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(shutil, "which", lambda _: None)

    async def main() -> None:
        opened = await store.open_store(None)
        assert opened.kind == "embedded"
        assert await asyncio.to_thread(write_and_read, opened.url) == b"value"
        await opened.stop()

    asyncio.run(main())
