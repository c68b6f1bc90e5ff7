"""The result store of a run on DynamoDB: moto in this process, with faults, and watched.

botocore's requests are answered where moto answers them, before they are sent, so the runtime's and
Celery's own DynamoDB code runs unchanged above it.
"""

from __future__ import annotations

import json
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from twolane_local.model import ACCOUNT, REGION
from twolane_local.simulator.store import RESULT
from twolane_local.testing.tables import Tables

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twolane_local.simulator.host import Host

TABLE = "celery"
#: Celery makes its keys bytes, and then a text of those.
_RESULT = f"b'{RESULT}"
URL = f"dynamodb://@{REGION}/{TABLE}?ttl_seconds=86400"


@contextmanager
def mocked() -> Iterator[None]:
    """moto answers for DynamoDB in this process while it is open."""
    from twolane_local.aws.moto.dynamodb import one_request_at_a_time
    from twolane_local.testing import mocks

    with ExitStack() as undo:
        undo.enter_context(mocks.moto())
        undo.enter_context(one_request_at_a_time())
        _create()
        yield


class TableStore:
    """Watches what changes under the keys that the invariants are about."""

    def __init__(self, world: Host) -> None:
        self._world = world
        self._known: dict[str, Any] = {}
        self._clients: dict[Any, Any] = {}
        self._tables = Tables(world.faults, world.clock, changed=self._look, done=world.called)
        _tables()[TABLE].items.clear()

    def replacements(self) -> Iterator[tuple[Any, str, Any]]:
        """Calls pass by here; a run's environments share their clients, which remember nothing but
        how often they had to try again.
        """
        import boto3
        from moto.core.models import botocore_stubber

        stock = botocore_stubber.process_request
        yield botocore_stubber, "process_request", lambda request: self._tables(request, stock)
        yield boto3, "client", partial(self._client, boto3.client)

    def result(self, task: str) -> dict[str, Any] | None:
        """What is stored of a task, as Celery stores it."""
        item = _items().get(f"{_RESULT}{task}'")
        return None if item is None else _stored(item)

    def _client(self, make: Callable[..., Any], *args: Any, **options: Any) -> Any:
        key = (*args, *((name, options[name]) for name in options if name != "config"),
               "config" in options)  # fmt: skip
        if key not in self._clients:
            self._clients[key] = make(*args, **options)
        return self._clients[key]

    def _look(self) -> None:
        from twolane.worker.lease import PREFIX, read_lease

        items = _items()
        for key in {**self._known, **items}:  # in an order that is the same in each process
            item = items.get(key)
            if item is self._known.get(key):
                continue
            before, after = _text(self._known.get(key)), _text(item)
            self._known[key] = item
            if before == after:
                continue
            if key.startswith(PREFIX):
                self._world.lease_changed(key, read_lease(after))
            elif key.startswith(_RESULT):
                stored = _stored(item) if item is not None else None
                self._world.result_changed(key.removeprefix(_RESULT)[:-1], stored)


def _text(item: Any) -> str | None:
    if item is None:
        return None
    attributes = item.attrs
    held = attributes.get("state") or attributes.get("result")
    return None if held is None else str(held.value)


def _stored(item: Any) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(item.attrs["result"].value)
    return value


def _items() -> dict[str, Any]:
    """The table's items by their key."""
    return {key.value: item for key, item in _tables()[TABLE].items.items()}


def _create() -> None:
    """As infrastructure does."""
    import boto3

    client = boto3.client("dynamodb", region_name=REGION)
    client.create_table(
        TableName=TABLE,
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    client.update_time_to_live(
        TableName=TABLE, TimeToLiveSpecification={"Enabled": True, "AttributeName": "ttl"}
    )


def _tables() -> Any:
    from moto.dynamodb.models import dynamodb_backends

    return dynamodb_backends[ACCOUNT][REGION].tables
