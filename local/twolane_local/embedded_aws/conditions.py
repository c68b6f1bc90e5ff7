"""moto's DynamoDB, one write at a time: a condition holds until its item is written.

moto looks at the condition and writes in two steps; and for a transaction it copies the whole table
to put the copy back where a condition fails, which undoes what others have written meanwhile and
takes longer the more there is. Here all conditions are looked at before anything is written.
"""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Held by each write.
WRITES = threading.RLock()

_METHODS = ("put_item", "update_item", "delete_item", "transact_write_items")


@contextmanager
def atomic_writes() -> Iterator[None]:
    """For as long as the block runs, in this process."""
    from moto.dynamodb.models import DynamoDBBackend

    stock = {name: getattr(DynamoDBBackend, name) for name in _METHODS}
    ours = stock | {"transact_write_items": _transact(stock["transact_write_items"])}
    for name, write in ours.items():
        setattr(DynamoDBBackend, name, _alone(write))
    try:
        yield
    finally:
        for name, write in stock.items():
            setattr(DynamoDBBackend, name, write)


def _alone(write: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(write)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with WRITES:
            return write(*args, **kwargs)

    return alone


def _transact(stock: Callable[..., Any]) -> Callable[..., Any]:
    def transact_write_items(self: Any, transact_items: list[dict[str, Any]]) -> None:
        if any(set(item) != {"Put"} for item in transact_items):
            stock(self, transact_items)  # changes what is there, in ways that may go wrong midway
            return
        puts = [item["Put"] for item in transact_items]
        keys = [(put["TableName"], str(_key(self, put))) for put in puts]
        if len(set(keys)) < len(keys) or len(puts) > 100:
            stock(self, transact_items)  # refuses it
            return
        reasons = [_refusal(self, put) for put in puts]
        if any(code for code, _, _ in reasons):
            from moto.dynamodb.exceptions import TransactionCanceledException

            raise TransactionCanceledException(reasons)
        for put in puts:
            self.put_item(put["TableName"], put["Item"])

    return transact_write_items


def _key(backend: Any, put: dict[str, Any]) -> dict[str, Any]:
    table = backend.get_table(put["TableName"])
    names = [name for name in (table.hash_key_attr, table.range_key_attr) if name]
    return {name: put["Item"][name] for name in names}


def _refusal(backend: Any, put: dict[str, Any]) -> tuple[Any, Any, Any]:
    """A cancellation reason as moto has them: code, message, the item that is there."""
    from moto.dynamodb.comparisons import get_filter_expression

    condition = put.get("ConditionExpression")
    if condition is None:
        return None, None, None
    current = backend.get_item(put["TableName"], _key(backend, put))
    holds = get_filter_expression(
        condition, put.get("ExpressionAttributeNames"), put.get("ExpressionAttributeValues")
    )
    if holds.expr(current):
        return None, None, None
    shown = current and put.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    item = current.to_json()["Attributes"] if shown else None
    return "ConditionalCheckFailed", "The conditional request failed", item
