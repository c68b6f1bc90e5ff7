"""The state store in DynamoDB, in the table of Celery's own DynamoDB result backend.

An item: ``id`` (S, the table's key, Celery's own), ``state`` (S), ``until`` (N, epoch seconds with
a fraction) and ``ttl`` (N, whole epoch seconds). DynamoDB removes an expired item up to days late,
so each read and each condition looks at ``until`` itself:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html

Needs ``dynamodb:GetItem``, ``BatchGetItem``, ``PutItem`` and ``DeleteItem`` on the table.
"""

from __future__ import annotations

import math
import random
import time
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from twolane.environment import snapshot
from twolane.environment.invocation import sleep
from twolane.errors import ConfigurationError, StoreUnavailableError
from twolane.patches.clients import patient_boto
from twolane.state.store import bounded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence


#: How often the same is asked while DynamoDB is busy, which takes ten seconds or so.
TRIES = 30
_LONGEST_WAIT_S = 1.0
_KEYS_A_READ = 100


#: The connections of a boto3 client, if it is not told another number.
_AT_ONCE = 10


@dataclass(frozen=True, slots=True)
class Location:
    """The table and its region. ``endpoint_url`` is set for DynamoDB on this machine only."""

    table: str
    region: str | None
    endpoint_url: str | None = None


def parse_url(url: str) -> Location:
    """Read ``dynamodb://[key:secret@]region-or-host[:port]/table?…`` as Celery's backend does:
    https://docs.celeryq.dev/en/stable/userguide/configuration.html#aws-dynamodb-backend-settings
    """
    parts = urlsplit(url)
    table = unquote(parts.path.strip("/")) or "celery"
    region = parse_qs(parts.query).get("region", ["us-east-1"])[0]
    if parts.hostname is None:
        raise ConfigurationError(
            f"the result backend {parts.scheme}://…/{table} names no region; write "
            f"dynamodb://@us-east-1/{table}"
        )
    if parts.hostname == "localhost" or _is_address(parts.hostname):
        endpoint = f"http://{parts.hostname}" + (f":{parts.port}" if parts.port else "")
        return Location(table, region, endpoint)
    return Location(table, parts.hostname)


def connect(location: Location) -> Any:
    """A boto3 client; credentials and ``AWS_ENDPOINT_URL`` come from the environment."""
    import boto3
    from botocore.config import Config

    return patient_boto(
        boto3.client(
            "dynamodb",
            region_name=location.region,
            endpoint_url=location.endpoint_url,
            config=Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard"}),
        )
    )


class DynamoDBStore:
    """``connect`` returns the boto3 client; it is called once, on first use. ``beside_results``:
    Celery's results are in the same table, so that one transaction can change both.
    """

    def __init__(
        self,
        table: str,
        connect: Callable[[], Any],
        clock: Callable[[], float] = time.time,
        *,
        beside_results: bool = False,
        sleep: Callable[[float], None] = sleep,
    ) -> None:
        self.beside_results = beside_results
        self._table = table
        self._connect = connect
        self._clock = clock
        self._sleep = sleep
        self._client: Any = None
        snapshot.holds(self)

    def let_go(self) -> None:
        """Close the client; the next call makes another, with credentials of its own."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def get_many(self, keys: Iterable[str]) -> dict[str, str]:
        names = {bounded(key): key for key in keys}
        with self._talking() as client:
            return {
                names[item["id"]["S"]]: item["state"]["S"]
                for item in read_all(client, self._table, [_key(key) for key in names], self._sleep)
                if self._is_live(item)
            }

    def put(self, key: str, value: str, *, ttl_s: float) -> None:
        with self._talking() as client:
            client.put_item(TableName=self._table, Item=self._item(key, value, ttl_s))

    def swap(
        self, key: str, expected: str | None, value: str, *, ttl_s: float, head: int | None = None
    ) -> str | None:
        values = {":now": {"N": str(self._clock())}}
        if expected is None:
            condition = "attribute_not_exists(id) OR #until <= :now"
            names = {"#until": "until"}
        else:
            same = "#state = :expected" if head is None else "begins_with(#state, :expected)"
            condition = f"{same} AND #until > :now"
            names = {"#until": "until", "#state": "state"}
            values[":expected"] = {"S": expected[:head]}
        with self._talking() as client:
            try:
                client.put_item(
                    TableName=self._table,
                    Item=self._item(key, value, ttl_s),
                    ConditionExpression=condition,
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                )
            except client.exceptions.ConditionalCheckFailedException as error:
                stood = error.response.get("Item", {})
                return str(stood["state"]["S"]) if self._is_live(stood) else ""
        return None

    def add_many(
        self, values: Mapping[str, str], *, ttl_s: float, side_by_side: bool = False
    ) -> set[str]:
        # Only a transaction writes several under conditions: all or none, at twice the price.
        if not side_by_side:
            return set()
        from concurrent.futures import ThreadPoolExecutor

        def add(item: tuple[str, str]) -> str | None:
            key, value = item
            return None if self.swap(key, None, value, ttl_s=ttl_s) is not None else key

        with self._talking():  # one client for all
            pass
        # Each in the invocation's context, which has the limit of its calls.
        contexts = [copy_context() for _ in values]
        with ThreadPoolExecutor(min(_AT_ONCE, len(values))) as threads:
            added = threads.map(
                lambda context, item: context.run(add, item), contexts, values.items()
            )
            return {key for key in added if key is not None}

    def delete(self, key: str, *, expected: str | None = None) -> bool:
        names = {"#until": "until"}
        values = {":now": {"N": str(self._clock())}}
        condition = "#until > :now"
        if expected is not None:
            names["#state"] = "state"
            values[":expected"] = {"S": expected}
            condition += " AND #state = :expected"
        with self._talking() as client:
            try:
                client.delete_item(
                    TableName=self._table,
                    Key=_key(key),
                    ConditionExpression=condition,
                    ExpressionAttributeNames=names,
                    ExpressionAttributeValues=values,
                )
            except client.exceptions.ConditionalCheckFailedException:
                return False
        return True

    def delete_many(self, expected: Mapping[str, str]) -> None:
        for key, value in expected.items():
            self.delete(key, expected=value)

    def _item(self, key: str, value: str, ttl_s: float) -> dict[str, Any]:
        return item_of(key, value, self._clock() + ttl_s)

    def _is_live(self, item: dict[str, Any]) -> bool:
        return "until" in item and float(item["until"]["N"]) > self._clock()

    @contextmanager
    def _talking(self) -> Iterator[Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._client is None:
                self._client = self._connect()
            yield self._client
        except (BotoCoreError, ClientError) as error:
            raise StoreUnavailableError(
                f"the DynamoDB state store, table {self._table}, did not answer ({error}); nothing "
                "is lost, the message will be delivered again. Check the table and its policy"
            ) from error


def read_all(
    client: Any, table: str, keys: Sequence[dict[str, Any]], sleep: Callable[[float], None]
) -> Iterator[dict[str, Any]]:
    """The items under distinct keys, consistently read.

    BatchGetItem takes at most 100 keys, and may leave some unprocessed, to be asked for again after
    a while: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_BatchGetItem.html

    Raises ``StoreUnavailableError`` where some are left after ten seconds or so.
    """
    for start in range(0, len(keys), _KEYS_A_READ):
        request: Any = {
            table: {"Keys": list(keys[start : start + _KEYS_A_READ]), "ConsistentRead": True}
        }
        for attempt in range(TRIES):
            answer = client.batch_get_item(RequestItems=request)
            yield from answer.get("Responses", {}).get(table, ())
            request = answer.get("UnprocessedKeys")
            if not request:
                break
            sleep(wait_s(attempt))
        else:
            raise StoreUnavailableError(
                f"the DynamoDB table {table} left keys unread {TRIES} times; the message will be "
                "delivered again. See whether the table is throttled"
            )


def wait_s(attempt: int) -> float:
    """https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html"""
    return random.uniform(0, min(_LONGEST_WAIT_S, 0.02 * 2**attempt))  # noqa: S311


def item_of(key: str, value: str, until: float) -> dict[str, Any]:
    """A key with its value, as stored; ``until`` is in epoch seconds."""
    return {
        **_key(key),
        "state": {"S": value},
        "until": {"N": str(until)},
        "ttl": {"N": str(math.ceil(until))},
    }


def _key(key: str) -> dict[str, dict[str, str]]:
    return {"id": {"S": bounded(key)}}


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
