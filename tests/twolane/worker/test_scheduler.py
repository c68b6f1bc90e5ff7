"""CreateSchedule against moto's Scheduler on a port, and against a server that misbehaves."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from twolane.publish.client import Response, Wire
from twolane.publish.errors import EnqueueError
from twolane.worker.aws import Scheduler
from twolane.worker.delay import entry

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KEYS = {"AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
ARN = "arn:aws:sqs:us-east-1:123456789012:tasks"
ENTRY = entry(
    ARN,
    '{"task": "é"}',
    1_893_456_000.0,
    role_arn="arn:aws:iam::123456789012:role/later",
    group="delays",
)


@pytest.fixture
def group(aws_server: str) -> Iterator[Any]:
    """A client of moto's Scheduler, where there is the group."""
    client = boto3.client(
        "scheduler", "us-east-1", endpoint_url=aws_server,
        aws_access_key_id="AKIDEXAMPLE", aws_secret_access_key="secret",
    )  # fmt: skip
    client.create_schedule_group(Name="delays")
    yield client
    client.delete_schedule_group(Name="delays")
    client.close()


def entries(client: Any) -> list[dict[str, Any]]:
    listed = client.list_schedules(GroupName="delays")["Schedules"]
    return [client.get_schedule(GroupName="delays", Name=each["Name"]) for each in listed]


def test_an_entry_is_made_once_without_boto3(
    group: Any, aws_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)  # importing it would fail
    scheduler = Scheduler({**KEYS, "AWS_ENDPOINT_URL": aws_server})
    scheduler.create("us-east-1", ENTRY)
    scheduler.create("us-east-1", ENTRY)
    (made,) = entries(group)
    assert {key: made[key] for key in ENTRY if key != "Target"} == {
        key: value for key, value in ENTRY.items() if key != "Target"
    }
    assert {key: made["Target"][key] for key in ENTRY["Target"]} == ENTRY["Target"]


def test_credentials_from_elsewhere_are_boto3s_matter(
    group: Any, aws_server: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in KEYS:
        monkeypatch.delenv(name, raising=False)
    file = tmp_path / "credentials"
    file.write_text("[default]\naws_access_key_id = AKIDEXAMPLE\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server)
    scheduler = Scheduler({"AWS_ENDPOINT_URL": aws_server})
    scheduler.create("us-east-1", ENTRY)
    scheduler.create("us-east-1", ENTRY)
    assert [made["Name"] for made in entries(group)] == [ENTRY["Name"]]
    with pytest.raises(EnqueueError, match=f"CreateSchedule on elsewhere/{ENTRY['Name']}"):
        scheduler.create("us-east-1", {**ENTRY, "GroupName": "elsewhere"})


def test_a_refusal_says_what_was_asked(group: Any, aws_server: str) -> None:
    assert group
    scheduler = Scheduler({**KEYS, "AWS_ENDPOINT_URL_SCHEDULER": aws_server})
    asked = f"EventBridge Scheduler refused CreateSchedule on elsewhere/{ENTRY['Name']}: "
    with pytest.raises(EnqueueError, match=asked):
        scheduler.create("us-east-1", {**ENTRY, "GroupName": "elsewhere"})


def test_an_answer_that_was_lost_is_asked_for_again(
    group: Any, aws_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    post, lost = Wire.post, [TimeoutError("timed out")]

    def losing(wire: Wire, *args: Any, **options: Any) -> Response:
        response = post(wire, *args, **options)
        if lost:
            raise lost.pop()
        return response

    monkeypatch.setattr(Wire, "post", losing)
    Scheduler({**KEYS, "AWS_ENDPOINT_URL": aws_server}).create("us-east-1", ENTRY)
    assert len(entries(group)) == 1


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b'{"welcome": "to the hotel\'s network"}'),
        (200, b"<html>"),
        (402, b'{"Message": "too many"}'),
    ],
)
def test_only_an_entrys_arn_is_a_promise(
    status: int, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = Response(status, body, reusable=True)
    monkeypatch.setattr(Wire, "post", lambda *_, **__: answer)
    with pytest.raises(EnqueueError, match=f"{status} no code"):
        Scheduler(KEYS).create("us-east-1", ENTRY)


def test_a_conflict_as_aws_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Response(409, b'{"Message": "Schedule already exists."}', reusable=True)
    monkeypatch.setattr(Wire, "post", lambda *_, **__: answer)
    Scheduler(KEYS).create("us-east-1", ENTRY)


@pytest.mark.parametrize(
    ("region", "host"),
    [
        ("eu-west-1", "scheduler.eu-west-1.amazonaws.com"),
        ("cn-north-1", "scheduler.cn-north-1.amazonaws.com.cn"),
    ],
)
def test_without_an_endpoint_it_is_the_regions(
    region: str, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def unreachable(wire: Wire, headers: Any, *_: Any, path: str, **__: Any) -> Response:
        assert headers["authorization"].count(f"/{region}/scheduler/aws4_request") == 1
        seen.append(wire._endpoint.host + path)
        raise ConnectionRefusedError

    monkeypatch.setattr(Wire, "post", unreachable)
    with pytest.raises(EnqueueError, match="did not answer"):
        Scheduler(KEYS).create(region, ENTRY)
    assert set(seen) == {f"{host}/schedules/{ENTRY['Name']}"}
