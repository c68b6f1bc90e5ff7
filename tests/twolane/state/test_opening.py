from __future__ import annotations

import pytest
from celery import Celery

from twolane.errors import ConfigurationError
from twolane.state import find_store, open_store
from twolane.state.dynamodb import DynamoDBStore, Location, parse_url
from twolane.state.memory import MemoryStore
from twolane.state.redis import RedisStore


def app(**settings: object) -> Celery:
    made = Celery("t", set_as_current=False)
    made.conf.update(settings)
    return made


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("redis://localhost:6379/0", RedisStore),
        ("rediss://localhost:6379/0?ssl_cert_reqs=required", RedisStore),
        ("dynamodb://@eu-central-1/results?ttl_seconds=60", DynamoDBStore),
        ("cache+memory://", MemoryStore),
    ],
)
def test_the_store_is_beside_the_results(url: str, kind: type) -> None:
    assert type(open_store(app(result_backend=url))) is kind


def test_another_store_can_be_named() -> None:
    named = app(
        result_backend="redis://localhost/0", twolane_state_store="dynamodb://@eu-west-1/leases"
    )
    assert type(open_store(named)) is DynamoDBStore
    elsewhere = app(result_backend="rpc://", twolane_state_store="redis://localhost/7")
    assert type(open_store(elsewhere)) is RedisStore


def test_a_variable_goes_before_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWOLANE_STATE_STORE", "dynamodb://@eu-west-1/leases")
    named = app(result_backend="db+sqlite://", twolane_state_store="redis://localhost/0")
    store = open_store(named)
    assert type(store) is DynamoDBStore
    assert not store.beside_results


def test_a_setting_with_a_namespace() -> None:
    class Settings:
        CELERY_RESULT_BACKEND = "db+sqlite://"
        CELERY_TWOLANE_STATE_STORE = "redis://localhost/3"

    named = Celery("named", set_as_current=False)
    named.config_from_object(Settings, namespace="CELERY")
    assert type(open_store(named)) is RedisStore


def test_a_store_that_cannot_hold_leases_is_no_store() -> None:
    with pytest.raises(ConfigurationError, match=r"mongodb://….*TWOLANE_STATE_STORE"):
        find_store(app(twolane_state_store="mongodb://localhost/leases"))


def test_memory_is_shared_within_the_process() -> None:
    first, second = (open_store(app(twolane_state_store="memory://")) for _ in range(2))
    assert first is second


@pytest.mark.parametrize("backend", [None, "rpc://", "db+sqlite:///results.db"])
def test_without_a_store(backend: str | None) -> None:
    assert find_store(app(result_backend=backend)) is None
    with pytest.raises(ConfigurationError, match=r"result_backend.* to redis://… or dynamodb://…"):
        open_store(app(result_backend=backend))


def test_the_store_talks_through_celerys_own_client(redis_url: str) -> None:
    celery = app(result_backend=redis_url)
    store = open_store(celery)
    store.put("twolane:lease:1", "x", ttl_s=5)
    assert celery.backend.client.get("twolane:lease:1") == b"x"
    celery.backend.client.connection_pool.disconnect()


@pytest.mark.parametrize(
    ("url", "location"),
    [
        ("dynamodb://@us-east-1/results?ttl_seconds=86400", Location("results", "us-east-1")),
        ("dynamodb://key:secret@eu-central-1/t", Location("t", "eu-central-1")),
        ("dynamodb://@eu-central-1", Location("celery", "eu-central-1")),
        (
            "dynamodb://@localhost:8000/t",
            Location("t", "us-east-1", "http://localhost:8000"),
        ),
        (
            "dynamodb://@127.0.0.1:4566/t?region=eu-west-3",
            Location("t", "eu-west-3", "http://127.0.0.1:4566"),
        ),
    ],
)
def test_addresses_of_tables(url: str, location: Location) -> None:
    assert parse_url(url) == location


def test_an_address_without_a_region() -> None:
    with pytest.raises(ConfigurationError, match="names no region"):
        parse_url("dynamodb:///t")
