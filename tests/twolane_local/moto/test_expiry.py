"""Time to live on moto's own tables, behind the same WSGI apps as in its process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.aws.moto.dynamodb import FILE, Expiry, TableLog, send

if TYPE_CHECKING:
    from pathlib import Path

NOW = 1_900_000_000.0


@pytest.fixture
def table(results_table: Any) -> Any:
    """moto's own table, so that reading it is not a request."""
    from moto.dynamodb.models import dynamodb_backends

    specification = {"Enabled": True, "AttributeName": "ttl"}
    results_table.update_time_to_live(TableName="results", TimeToLiveSpecification=specification)
    return dynamodb_backends["123456789012"]["us-east-1"].tables["results"]


@pytest.fixture
def moto(table: Any) -> Any:
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    return DomainDispatcherApplication(create_backend_app)


class Hands:
    now = NOW

    def __call__(self) -> float:
        return self.now


def put(app: Any, key: str, ttl: dict[str, str] | None = None, **more: Any) -> None:
    item = {"id": {"S": key}} | ({"ttl": ttl} if ttl else {})
    send(app, "PutItem", {"TableName": "results", "Item": item, **more})


def read(app: Any) -> None:
    send(app, "GetItem", {"TableName": "results", "Key": {"id": {"S": "any"}}})


def kept(table: Any) -> set[str]:
    return {item.hash_key.value for item in table.all_items()}


@pytest.mark.parametrize(
    ("ttl", "stays"),
    [
        ({"N": f"{NOW:.0f}"}, False),
        ({"N": f"{NOW + 1:.0f}"}, True),
        ({"N": f"{NOW - 4 * 365 * 86_400:.0f}"}, False),
        ({"N": f"{NOW - 6 * 365 * 86_400:.0f}"}, True),  # more than five years ago: left alone
        ({"S": f"{NOW - 60:.0f}"}, True),
        (None, True),
    ],
)
def test_what_is_over_is_gone_before_a_request_is_answered(
    moto: Any, table: Any, ttl: dict[str, str] | None, stays: bool
) -> None:
    put(moto, "a", ttl)
    read(Expiry(moto, Hands()))
    assert ("a" in kept(table)) is stays


def test_a_table_without_time_to_live_keeps_everything(
    moto: Any, table: Any, results_table: Any
) -> None:
    specification = {"Enabled": False, "AttributeName": "ttl"}
    results_table.update_time_to_live(TableName="results", TimeToLiveSpecification=specification)
    put(moto, "a", {"N": "1800000000"})
    read(Expiry(moto, Hands()))
    assert kept(table) == {"a"}


def test_it_looks_once_a_second(moto: Any, table: Any) -> None:
    hands = Hands()
    app = Expiry(moto, hands)
    read(app)
    put(moto, "a", {"N": f"{NOW:.0f}"})
    hands.now += 0.9
    read(app)
    assert kept(table) == {"a"}
    hands.now += 0.1
    read(app)
    assert kept(table) == set()


def test_a_request_of_another_service_is_no_occasion(moto: Any, table: Any) -> None:
    put(moto, "a", {"N": f"{NOW:.0f}"})
    list(Expiry(lambda *_: [], Hands())({"HTTP_X_AMZ_TARGET": "AmazonSQS.ReceiveMessage"}, print))
    assert kept(table) == {"a"}


def test_an_item_that_was_kept_longer_in_between_stays(moto: Any, table: Any) -> None:
    put(moto, "a", {"N": f"{NOW:.0f}"})

    def slower(environ: dict[str, Any], start_response: Any) -> Any:
        if environ["HTTP_X_AMZ_TARGET"].endswith("DeleteItem"):
            put(moto, "a", {"N": f"{NOW + 60:.0f}"})
        return moto(environ, start_response)

    read(Expiry(slower, Hands()))
    assert kept(table) == {"a"}


def test_the_log_of_the_tables_loses_it_too(moto: Any, table: Any, tmp_path: Path) -> None:
    """Otherwise a write on condition that it is absent would be lost at the next start."""
    log = TableLog(moto, tmp_path)
    app = Expiry(log, Hands())
    put(log, "a", {"N": f"{NOW:.0f}"})
    put(app, "a", None, ConditionExpression="attribute_not_exists(id)")
    actions = [json.loads(line)["action"] for line in (tmp_path / FILE).read_text().splitlines()]
    assert actions == ["PutItem", "DeleteItem", "PutItem"]
    log.close()
    table.items.clear()
    TableLog(moto, tmp_path).replay(list)
    (item,) = table.all_items()
    assert "ttl" not in item.attrs
