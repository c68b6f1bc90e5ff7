"""The same with results and task state in the table, as a deployment without RedisUrl has it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from . import scenarios
from .conftest import up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with up(tmp_path_factory.mktemp("up"), "--parameter", "RedisUrl=") as (service, _):
        yield service


pytestmark = pytest.mark.slow


@pytest.mark.parametrize("scenario", scenarios.ALL)
def test_scenario(service: Service, scenario: Callable[[Service], None]) -> None:
    scenario(service)


def test_results_are_in_the_table(service: Service) -> None:
    dynamodb = service.client("dynamodb")
    task = service.readme_task("deferred")
    # Celery 5.7 writes the text form of its key's bytes: str(key) in its DynamoDBBackend.
    key = {"id": {"S": str(f"celery-task-meta-{task['id']}".encode())}}
    item = dynamodb.get_item(TableName="local-ResultsTable", Key=key)["Item"]
    assert json.loads(item["result"]["B"])["result"] == task["result"]
    assert item["ttl"]["N"]
