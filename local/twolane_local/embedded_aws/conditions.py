"""moto's DynamoDB, one request at a time: a condition holds until its item is written.

moto looks at the condition and writes in two steps; and for a transaction it copies the whole table
to put the copy back where a condition fails, which undoes what others have written meanwhile and
takes longer the more there is. Here a request, a read too, runs alone from its first look to its
answer, and a transaction looks at all conditions before anything is written.
"""

from __future__ import annotations

import copy
import threading
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

#: Held by each request to DynamoDB, and by what else reads or changes its tables.
REQUESTS = threading.RLock()

#: What moto's CloudFormation calls, beside the requests.
_FROM_A_TEMPLATE = ("create_table", "delete_table", "update_table", "update_time_to_live")


@contextmanager
def one_request_at_a_time() -> Iterator[None]:
    """For as long as the block runs, in this process."""
    from moto.dynamodb.models import DynamoDBBackend
    from moto.dynamodb.responses import DynamoHandler

    replaced: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (DynamoHandler, "call_action", _alone),
        *((DynamoDBBackend, name, _alone) for name in _FROM_A_TEMPLATE),
        (DynamoDBBackend, "transact_write_items", _transact),
        (DynamoDBBackend, "execute_transaction", _execute),
    ]
    stock = [(owner, name, getattr(owner, name)) for owner, name, _ in replaced]
    for owner, name, ours in replaced:
        setattr(owner, name, ours(getattr(owner, name)))
    try:
        yield
    finally:
        for owner, name, former in stock:
            setattr(owner, name, former)


def _alone(answer: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(answer)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with REQUESTS:
            return answer(*args, **kwargs)

    return alone


def _transact(stock: Callable[..., Any]) -> Callable[..., Any]:
    def transact_write_items(self: Any, transact_items: list[dict[str, Any]]) -> None:
        if len(transact_items) > 100 or any(
            len(item) != 1 or not item.keys() <= _WRITES.keys() for item in transact_items
        ):
            stock(self, transact_items)  # refuses it
            return
        writes = [next(iter(item.items())) for item in transact_items]
        keys = [_key(self, write) for _, write in writes]
        targets = {
            (write["TableName"], str(key)) for (_, write), key in zip(writes, keys, strict=True)
        }
        if len(targets) < len(writes):
            stock(self, transact_items)  # refuses it, too
            return
        reasons = [_refusal(self, write, key) for (_, write), key in zip(writes, keys, strict=True)]
        if any(code for code, _, _ in reasons):
            raise _cancelled(reasons)
        with _all_or_nothing(self.get_table(write["TableName"]) for _, write in writes):
            for place, (kind, write) in enumerate(writes):
                try:
                    _WRITES[kind](self, write, keys[place])
                except Exception as error:
                    reasons[place] = type(error).__name__, str(error), None
                    if _is_invalid(error):
                        raise
                    raise _cancelled(reasons) from error

    return transact_write_items


def _execute(stock: Callable[..., Any]) -> Callable[..., Any]:
    """PartiQL's transaction, of which moto keeps what came before the statement that failed."""

    def execute_transaction(self: Any, statements: list[dict[str, Any]]) -> Any:
        with _all_or_nothing(self.tables.values()):
            return stock(self, statements)

    return execute_transaction


@contextmanager
def _all_or_nothing(tables: Iterable[Any]) -> Iterator[None]:
    """Put the tables' items back where the block raises. What it writes must be new objects."""
    before = []
    for table in {id(each): each for each in tables}.values():
        items = copy.copy(table.items)
        if table.range_key_attr is not None:
            for key, under in items.items():
                items[key] = copy.copy(under)
        shard = table.stream_shard
        before.append((table, items, shard, len(shard.items) if shard is not None else 0))
    try:
        yield
    except BaseException:
        for table, items, shard, length in before:
            table.items = items
            if shard is not None:
                del shard.items[length:]
        raise


def _put(backend: Any, write: dict[str, Any], _: dict[str, Any]) -> None:
    backend.put_item(write["TableName"], write["Item"])


def _delete(backend: Any, write: dict[str, Any], key: dict[str, Any]) -> None:
    backend.delete_item(write["TableName"], key)


def _update(backend: Any, write: dict[str, Any], key: dict[str, Any]) -> None:
    table = backend.get_table(write["TableName"])
    hash_key, range_key = backend.get_keys_value(table, key)
    if (item := table.get_item(hash_key, range_key)) is not None:
        # moto changes the item in its place.
        if range_key:
            table.items[hash_key][range_key] = copy.deepcopy(item)
        else:
            table.items[hash_key] = copy.deepcopy(item)
    backend.update_item(
        write["TableName"],
        key,
        update_expression=write["UpdateExpression"],
        expression_attribute_names=write.get("ExpressionAttributeNames"),
        expression_attribute_values=write.get("ExpressionAttributeValues"),
    )


def _check(*_: Any) -> None:
    """Nothing is written for a condition alone."""


_WRITES: dict[str, Callable[[Any, dict[str, Any], dict[str, Any]], None]] = {
    "Put": _put,
    "Delete": _delete,
    "Update": _update,
    "ConditionCheck": _check,
}


def _key(backend: Any, write: dict[str, Any]) -> dict[str, Any]:
    table = backend.get_table(write["TableName"])
    names = [name for name in (table.hash_key_attr, table.range_key_attr) if name]
    values: dict[str, Any] = write["Item"] if "Item" in write else write["Key"]
    return {name: values[name] for name in names if name in values}


def _refusal(
    backend: Any, write: dict[str, Any], key: dict[str, Any]
) -> tuple[str | None, str | None, Any]:
    """A cancellation reason as moto has them: code, message, the item that is there."""
    from moto.dynamodb.comparisons import get_filter_expression

    condition = write.get("ConditionExpression")
    if condition is None:
        return None, None, None
    current = backend.get_item(write["TableName"], key)
    holds = get_filter_expression(
        condition, write.get("ExpressionAttributeNames"), write.get("ExpressionAttributeValues")
    )
    if holds.expr(current):
        return None, None, None
    shown = current and write.get("ReturnValuesOnConditionCheckFailure") == "ALL_OLD"
    item = current.to_json()["Attributes"] if shown else None
    return "ConditionalCheckFailed", "The conditional request failed", item


def _cancelled(reasons: list[tuple[str | None, str | None, Any]]) -> Exception:
    from moto.dynamodb.exceptions import TransactionCanceledException

    return TransactionCanceledException(reasons)


def _is_invalid(error: Exception) -> bool:
    from moto.dynamodb.exceptions import MockValidationException

    return isinstance(error, MockValidationException)
