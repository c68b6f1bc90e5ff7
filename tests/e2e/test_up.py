"""`twolane up` on template.yaml, as `make up` starts it, by the README's own lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import redis

from . import scenarios
from .conftest import BIN, Service, running, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from _pytest.mark import ParameterSet

#: Where results live: the Redis that `twolane up` starts, or the table that a deployment has.
STORES = {"redis": [], "dynamodb": ["--parameter", "RedisUrl="]}
SCENARIOS = [
    scenarios.inline,
    scenarios.deferred,
    scenarios.campaign,
    scenarios.imported,
    scenarios.retried,
    scenarios.revoked,
    scenarios.exhausted,
]


def stores() -> list[ParameterSet]:
    return [pytest.param(name, marks=pytest.mark.xdist_group(f"up-{name}")) for name in STORES]


@pytest.fixture(scope="module", params=stores())
def service(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    log = tmp_path_factory.mktemp("up") / "log"
    command = [str(BIN / "twolane"), "up", "--json", "--port", "0", "--aws-port", "0"]
    with running([*command, *STORES[request.param]], log) as process:
        said = until(lambda: ready(log, process.poll()), "line of JSON", seconds=30)
        redis_url = said["store"] if request.param == "redis" else ""
        yield Service(said["api"], log, said["aws"], redis_url)


def client(service: Service, name: str) -> Any:
    make: Any = boto3.client
    return make(
        name,
        region_name="us-east-1",
        endpoint_url=service.aws,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )


def ready(log: Path, code: int | None) -> dict[str, Any] | None:
    assert code is None, log.read_text()
    for line in log.read_text().splitlines():
        if line.startswith('{"'):
            return dict(json.loads(line))
    return None


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(service: Service, scenario: Callable[[Service], None]) -> None:
    scenario(service)


def test_mail_goes_out_through_ses(service: Service) -> None:
    ses = client(service, "ses")
    before = ses.get_send_quota()["SentLast24Hours"]
    service.readme("inline")
    until(lambda: ses.get_send_quota()["SentLast24Hours"] > before or None, "mail sent")


def test_results_are_in_the_store(service: Service) -> None:
    task = service.readme_task("deferred")
    key = f"celery-task-meta-{task['id']}"
    if service.redis_url:
        with redis.Redis.from_url(service.redis_url) as store:
            stored = store.get(key)
    else:
        table = client(service, "dynamodb")
        # Celery 5.7 writes the text form of its key's bytes: str(key) in its DynamoDBBackend.
        written = {"id": {"S": str(key.encode())}}
        item = table.get_item(TableName="local-ResultsTable", Key=written)["Item"]
        assert item["ttl"]["N"]
        stored = item["result"]["B"]
    assert json.loads(stored)["result"] == task["result"]
