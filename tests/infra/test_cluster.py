"""Results and state in a Redis cluster, which ElastiCache Serverless always is.

A node that owns every slot refuses commands on two slots just as many nodes do.
https://docs.aws.amazon.com/AmazonElastiCache/latest/dg/WhatIs.corecomponents.html
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis
from celery import Celery
from redis.exceptions import RedisError, ResponseError

from twolane.errors import StoreUnavailableError
from twolane.state import open_store
from twolane.state.redis import key_prefix
from twolane_local.model import Options

from .conftest import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.emulator import Emulator

    from ..conftest import Emulate  # noqa: TID252

#: What template.yaml gives to the Redis of infra/redis.yaml.
PREFIX = "{twolane}:"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    binary = shutil.which("redis-server")
    if binary is None:
        pytest.skip("redis-server is not on the PATH; install it (apt-get install redis-server)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Its bus has a port of its own; by default 10,000 above, where there may be none.
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bus = probe.getsockname()[1]
    arguments = [
        "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--cluster-enabled", "yes",
        "--cluster-port", str(bus), "--dir", str(tmp_path_factory.mktemp("cluster")),
    ]  # fmt: skip
    process = subprocess.Popen([binary, *arguments], stdout=subprocess.DEVNULL)
    try:
        with redis.Redis(port=port) as client:
            _own_every_slot(client)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(10)


def _own_every_slot(client: redis.Redis) -> None:
    deadline = time.monotonic() + 20
    asked = False
    while True:
        try:
            if not asked:
                client.cluster("ADDSLOTSRANGE", 0, 16383)
                asked = True
            client.set("probe", "1")
        except RedisError:
            assert time.monotonic() < deadline
            time.sleep(0.05)  # until the server is there, and takes itself for a cluster
        else:
            return


def app(url: str, prefix: str) -> Celery:
    made = Celery("cluster", backend=url, set_as_current=False)
    if prefix:
        made.conf.result_backend_transport_options = {"global_keyprefix": prefix}
    return made


@pytest.mark.slow
def test_it_refuses_two_slots(cluster: str) -> None:
    with (
        redis.Redis.from_url(cluster) as client,
        pytest.raises(ResponseError, match="hash to the same slot"),
    ):
        client.mget("one", "another")


def test_state_needs_the_prefix_and_carries_it(cluster: str) -> None:
    without = open_store(app(cluster, ""))
    with pytest.raises(StoreUnavailableError, match="hash to the same slot"):
        without.get_many(["twolane:lease:a", "twolane:lease:b"])
    store = open_store(app(cluster, PREFIX))
    store.put("twolane:lease:a", "1", ttl_s=60)
    assert store.swap("twolane:lease:b", None, "2", ttl_s=60) is None
    assert store.swap("twolane:lease:b", "2", "3", ttl_s=60) is None
    found = store.get_many(["twolane:lease:a", "twolane:lease:b", "twolane:lease:c"])
    assert found == {"twolane:lease:a": "1", "twolane:lease:b": "3"}
    with redis.Redis.from_url(cluster) as client:
        assert client.get(f"{PREFIX}twolane:lease:a") == b"1"
    assert store.delete("twolane:lease:a", expected="1")
    assert store.delete("twolane:lease:b")
    assert store.get_many(["twolane:lease:a", "twolane:lease:b"]) == {}


@pytest.mark.parametrize("prefix", ["", "{shop}:", "shop", "shop_"])
def test_the_prefix_is_celerys_own(cluster: str, prefix: str) -> None:
    made = app(cluster, prefix)
    backend: Any = made.backend
    assert backend.get_key_for_task("1") == f"{key_prefix(made)}celery-task-meta-1".encode()


@pytest.mark.slow
def test_both_lanes_work_on_a_cluster(cluster: str, emulate: Emulate) -> None:
    parameters = {"RedisUrl": cluster, "RedisKeyPrefix": PREFIX}
    emulate(Options(ROOT / "template.yaml", port=0, aws_port=0, parameters=parameters), scenarios)


async def scenarios(emulator: Emulator) -> None:
    (url,) = emulator.addresses.apis.values()
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as http:

        async def queued(path: str, **arguments: Any) -> str:
            answer = await http.post(path, **arguments)
            assert answer.status_code == 202, answer.text
            return str(answer.json()["id"])

        async def ended(task: str) -> dict[str, Any]:
            for _ in range(6):
                answer = await http.get(f"/tasks/{task}", headers={"Prefer": "wait=5"})
                if answer.json()["state"] in {"SUCCESS", "FAILURE", "REVOKED"}:
                    break
            return dict(answer.json())

        def note(email: str, **more: Any) -> dict[str, Any]:
            return {"json": {"email": email, "message": "Hello", **more}}

        once = {"headers": {"Idempotency-Key": '"once"'}}
        first = await queued("/notify/deferred", **note("user@example.com"), **once)
        assert await queued("/notify/deferred", **note("user@example.com"), **once) == first
        assert (await ended(first))["result"]["outcome"] == "sent"
        retried = await ended(
            await queued("/notify/deferred", **note("flaky@simulator.example.com"))
        )
        assert (retried["state"], retried["attempts"]) == ("SUCCESS", 2)
        recipients = [f"user{number}@example.com" for number in range(12)]
        campaign = {"json": {"recipients": recipients, "message": "Hello"}}
        chord = await ended(await queued("/campaigns", **campaign))
        assert chord["result"] == {"recipients": 12, "sent": 12, "refused": 0, "failed": 0}
        late = await queued("/notify/deferred", **note("late@example.com", delay_seconds=60))
        assert (await http.delete(f"/tasks/{late}")).status_code < 300
        assert (await ended(late))["state"] == "REVOKED"
        event = (ROOT / "events" / "beat-tick.json").read_bytes()
        assert (await emulator.functions.invoke("BeatFunction", event)).error is None
    refused = [event for event in emulator.journal if "same slot" in str(event.data)]
    assert not refused
