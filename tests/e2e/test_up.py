"""`twolane up` on template.yaml, as `make up` starts it, by the README's own lines."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import redis

from . import scenarios
from .conftest import until, up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .conftest import Service


@pytest.fixture(scope="module")
def started(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Service, dict[str, Any]]]:
    with up(tmp_path_factory.mktemp("up")) as started:
        yield started


@pytest.fixture(scope="module")
def service(started: tuple[Service, dict[str, Any]]) -> Service:
    return started[0]


@pytest.mark.parametrize("scenario", scenarios.ALL)
def test_scenario(service: Service, scenario: Callable[[Service], None]) -> None:
    scenario(service)


def test_mail_goes_out_through_ses(service: Service) -> None:
    make: Any = boto3.client
    ses = make(
        "ses",
        region_name="us-east-1",
        endpoint_url=service.aws,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
    )
    before = ses.get_send_quota()["SentLast24Hours"]
    service.readme("inline")
    until(lambda: ses.get_send_quota()["SentLast24Hours"] > before or None, "mail sent")


def test_results_are_in_redis(started: tuple[Service, dict[str, Any]]) -> None:
    service, said = started
    task = service.readme_task("deferred")
    with redis.Redis.from_url(said["store"]) as store:
        stored = store.get(f"celery-task-meta-{task['id']}")
    assert isinstance(stored, bytes)
    assert json.loads(stored)["result"] == task["result"]
