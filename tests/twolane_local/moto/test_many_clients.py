"""Many clients at once, over HTTP, against the process that serves moto."""

from __future__ import annotations

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from .test_process import with_moto

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

CLIENTS = 8
#: DynamoDB's errors for a condition that does not hold; any other one is a defect.
CONDITION = {"ConditionalCheckFailedException", "TransactionCanceledException"}


class Clients:
    """One for each of many threads. None tries a call again, so that each answer is seen."""

    def __init__(self, service: str, endpoint: str) -> None:
        self._service, self._endpoint = service, endpoint
        self._of_thread = threading.local()
        self._making = threading.Lock()
        self._threads = ThreadPoolExecutor(CLIENTS)
        self.codes: Counter[str] = Counter()

    @property
    def mine(self) -> Any:
        if not hasattr(self._of_thread, "client"):
            with self._making:
                make: Any = boto3.client
                self._of_thread.client = make(
                    self._service,
                    endpoint_url=self._endpoint,
                    region_name="us-east-1",
                    aws_access_key_id="local",
                    aws_secret_access_key="local",
                    config=Config(
                        retries={"total_max_attempts": 1}, s3={"addressing_style": "path"}
                    ),
                )
        return self._of_thread.client

    def call(self, name: str, **arguments: Any) -> Any:
        """The answer, or ``None`` for an error, which is counted."""
        try:
            return getattr(self.mine, name)(**arguments)
        except ClientError as error:
            response: Any = error.response
            self.codes[str(response["Error"]["Code"])] += 1
            return None

    def all(self, calls: Iterable[Callable[[], Any]]) -> list[Any]:
        """Make all calls, as many at once as there are clients; what each returned."""
        return [each.result() for each in [self._threads.submit(call) for call in calls]]


def item(key: str, **numbers: int) -> dict[str, Any]:
    return {"id": {"S": key}, **{name: {"N": str(value)} for name, value in numbers.items()}}


def number(tables: Clients, key: str) -> int:
    found = tables.mine.get_item(TableName="kept", Key=item(key), ConsistentRead=True)
    return int(found["Item"]["n"]["N"])


def add(key: str) -> dict[str, Any]:
    return {
        "TableName": "kept",
        "Key": item(key),
        "UpdateExpression": "ADD n :one",
        "ExpressionAttributeValues": {":one": {"N": "1"}},
    }


def once(key: str) -> dict[str, Any]:
    return {
        "TableName": "kept",
        "Item": item(key),
        "ConditionExpression": "attribute_not_exists(id)",
    }


def storm(endpoint: str) -> None:  # noqa: C901 (a function for each kind of call)
    """All kinds of writes at the same time; each must be as if it were alone."""
    tables = Clients("dynamodb", endpoint)
    for key in ("counter", "left", "right"):
        tables.mine.put_item(TableName="kept", Item=item(key, n=0))
    for gone in range(20):
        tables.mine.put_item(TableName="kept", Item=item(f"gone-{gone}"))
    rounds = range(42)
    torn: list[tuple[int, int]] = []

    def lease(which: int) -> tuple[str, bool]:
        return f"lease-{which}", tables.call("put_item", **once(f"lease-{which}")) is not None

    def delete(which: int) -> tuple[str, bool]:
        key = f"gone-{which % 20}"
        answer = tables.call(
            "delete_item",
            TableName="kept",
            Key=item(key),
            ConditionExpression="attribute_exists(id)",
        )
        return key, answer is not None

    def count(_: int) -> bool:
        return tables.call("update_item", **add("counter")) is not None

    def transact(which: int) -> int | None:
        """Both counters, and an item of its own; every third one finds the item there."""
        key = f"own-{which - 1 if which % 3 == 2 else which}"
        answer = tables.call(
            "transact_write_items",
            TransactItems=[{"Update": add("left")}, {"Put": once(key)}, {"Update": add("right")}],
        )
        return None if answer is None else which

    def look(_: int) -> None:
        keys = [{"Get": {"TableName": "kept", "Key": item(key)}} for key in ("left", "right")]
        found = tables.call("transact_get_items", TransactItems=keys)
        left, right = (int(each["Item"]["n"]["N"]) for each in found["Responses"])
        if left != right:
            torn.append((left, right))

    def batch(which: int) -> bool:
        puts = [{"PutRequest": {"Item": item(f"batch-{which}-{part}")}} for part in range(5)]
        return tables.call("batch_write_item", RequestItems={"kept": puts}) is not None

    def partiql(which: int) -> bool:
        statement = f"INSERT INTO kept VALUE {{'id': 'ql-{which}'}}"
        return tables.call("execute_statement", Statement=statement) is not None

    def scan(_: int) -> None:
        tables.call("scan", TableName="kept")

    kinds: list[Callable[[int], Any]] = [
        lease, lambda n: lease(n // 2), delete, count, transact, look, batch, partiql, scan,
    ]  # fmt: skip
    answers = tables.all(
        (lambda kind=kind, n=n: (kinds.index(kind), kind(n))) for n in rounds for kind in kinds
    )
    by_kind: list[list[Any]] = [[] for _ in kinds]
    for kind, answer in answers:
        by_kind[kind].append(answer)
    leases, again, deletes, counts, transacted, _, batches, inserted, _ = by_kind

    assert set(tables.codes) <= CONDITION
    assert torn == []
    granted = Counter(key for key, held in leases + again if held)
    assert granted == Counter({f"lease-{which}": 1 for which in rounds})
    assert Counter(key for key, done in deletes if done) == Counter(
        {f"gone-{which}": 1 for which in range(20)}
    )
    assert all(counts)
    assert number(tables, "counter") == len(rounds)
    acknowledged = [which for which in transacted if which is not None]
    assert number(tables, "left") == number(tables, "right") == len(acknowledged) == 28
    pages = tables.mine.get_paginator("scan").paginate(TableName="kept")
    stored = {each["id"]["S"] for page in pages for each in page["Items"]}
    assert all(batches)
    assert all(inserted)
    assert stored == {
        "counter", "left", "right",
        *(f"lease-{which}" for which in rounds),
        *(f"own-{which - 1 if which % 3 == 2 else which}" for which in acknowledged),
        *(f"batch-{which}-{part}" for which in rounds for part in range(5)),
        *(f"ql-{which}" for which in rounds),
    }  # fmt: skip


@pytest.mark.slow
def test_each_write_is_as_if_it_were_alone() -> None:
    with_moto(storm)


@pytest.mark.slow
def test_each_write_is_as_if_it_were_alone_and_is_kept(tmp_path: Path) -> None:
    """The log has the writes in the order in which they happened."""
    seen: list[dict[str, Any]] = []

    def note(endpoint: str) -> None:
        found = Clients("dynamodb", endpoint).mine.scan(TableName="kept")["Items"]
        seen.append({each["id"]["S"]: each for each in found})

    def write(endpoint: str) -> None:
        storm(endpoint)
        note(endpoint)

    with_moto(write, tmp_path)
    with_moto(note, tmp_path)
    assert seen[0] == seen[1]


@pytest.mark.slow
def test_objects_and_mail_of_many_clients_at_once() -> None:
    def script(endpoint: str) -> None:
        objects, mail = Clients("s3", endpoint), Clients("sesv2", endpoint)

        def claim(which: int) -> bool:
            place, body = {"Bucket": "kept", "Key": f"claim/{which}"}, str(which).encode() * 1000
            objects.call("put_object", **place, Body=body)
            read = objects.call("get_object", **place)["Body"].read()
            objects.call("list_objects_v2", Bucket="kept")
            if which % 2:
                objects.call("delete_object", **place)
            return bool(read == body)

        def overwrite(which: int) -> bool:
            """All clients write one object; each read returns one complete version of it."""
            place = {"Bucket": "kept", "Key": "same"}
            objects.call("put_object", **place, Body=bytes([which]) * 200_000)
            read = objects.call("get_object", **place)["Body"].read()
            return len(read) == 200_000 and len(set(read)) == 1

        def once(which: int) -> bool:
            place = {"Bucket": "kept", "Key": f"once/{which // 4}"}
            return objects.call("put_object", **place, Body=b"", IfNoneMatch="*") is not None

        def send(_: int) -> str:
            text = {"Subject": {"Data": "s"}, "Body": {"Text": {"Data": "b"}}}
            return str(
                mail.call(
                    "send_email",
                    FromEmailAddress="sender@example.com",
                    Destination={"ToAddresses": ["a@example.com"]},
                    Content={"Simple": text},
                )["MessageId"]
            )

        rounds = range(100)
        kinds: list[Callable[[int], Any]] = [claim, overwrite, once, send]
        answers = objects.all(
            (lambda kind=kind, n=n: (kind, kind(n))) for n in rounds for kind in kinds
        )
        found = {kind: [answer for each, answer in answers if each is kind] for kind in kinds}
        assert set(objects.codes) <= {"PreconditionFailed"}
        assert not mail.codes
        assert all(found[claim])
        assert all(found[overwrite])
        assert sum(found[once]) == len(rounds) / 4
        assert len(set(found[send])) == len(rounds)
        listed = objects.mine.list_objects_v2(Bucket="kept")["Contents"]
        assert sum(each["Key"].startswith("claim/") for each in listed) == len(rounds) / 2

    with_moto(script)
