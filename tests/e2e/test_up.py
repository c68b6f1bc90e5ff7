"""`twolane up` on template.yaml, as `make up` starts it, by the README's own lines."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import redis

from . import scenarios
from .conftest import until, up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


NOTE = {"email": "user@example.com", "message": "Hello"}
SENT = "Sending notification to user@example.com"


def test_mail_is_only_logged_while_anybody_may_call(service: Service) -> None:
    already = service.log_text().count(SENT)
    httpx.post(f"{service.url}/notify/deferred", json=NOTE, trust_env=False)
    until(lambda: service.log_text().count(SENT) > already or None, "line of the log")
    assert service.client("ses").get_send_quota()["SentLast24Hours"] == 0


@pytest.mark.slow
def test_mail_goes_out_through_ses_where_callers_are_known(tmp_path: Path) -> None:
    parameters = {
        "ApiKeySha256": hashlib.sha256(b"a key for the test").hexdigest(),
        "SenderAddress": "notifications@example.com",
        "CreateSenderIdentity": "true",
    }
    flags = [each for pair in parameters.items() for each in ("--parameter", "=".join(pair))]
    with up(tmp_path, *flags) as (service, _):
        ses = service.client("ses")
        address = f"{service.url}/notify"
        assert httpx.post(address, json=NOTE, trust_env=False).status_code == 401
        key = {"X-API-Key": "a key for the test"}
        assert httpx.post(address, json=NOTE, headers=key, trust_env=False).status_code == 200
        until(lambda: ses.get_send_quota()["SentLast24Hours"] == 1 or None, "mail sent")


def test_results_are_in_redis(started: tuple[Service, dict[str, Any]]) -> None:
    service, said = started
    task = service.readme_task("deferred")
    with redis.Redis.from_url(said["store"]) as store:
        stored = store.get(f"celery-task-meta-{task['id']}")
    assert isinstance(stored, bytes)
    assert json.loads(stored)["result"] == task["result"]


@pytest.mark.slow
def test_a_big_import_goes_by_the_bucket_and_shows_its_progress(service: Service) -> None:
    rows = 50_000
    csv = "email\n" + "".join(f"user{number:06}@example.com\n" for number in range(rows))
    assert len(csv) > 1_048_576, "more than SQS takes"
    queued = httpx.post(
        f"{service.url}/imports", content=csv, headers={"content-type": "text/csv"}, trust_env=False
    )
    assert queued.status_code == 202, queued.text
    location = queued.headers["location"]
    seen: list[dict[str, Any]] = []

    def look() -> dict[str, Any] | None:
        _, task = service.get(location)
        if task["progress"]:
            seen.append(task["progress"])
        return task if task["state"] in {"SUCCESS", "FAILURE"} else None

    assert until(look, "end of the import")["result"]["accepted"] == rows
    assert seen
    assert all(0 < progress["current"] <= progress["total"] == rows for progress in seen)
    objects = service.client("s3").list_objects_v2(Bucket="local-claimcheckbucket")
    assert [one["Key"].startswith("claim-check/") for one in objects["Contents"]] == [True]
