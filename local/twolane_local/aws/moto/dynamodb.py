"""DynamoDB in moto's process: atomic writes, items that expire, and tables that are kept on disk.

moto copies and restores whole tables in a transaction, so its requests must not overlap, and some
of its writes are replaced here.

Tables are kept by an append-only log of the requests that changed them. It is replayed into the new
tables at the next start, and then rewritten with the remaining items. Like the log of the queues it
survives a kill of the process at any moment, but not a power cut.

Items expire as DynamoDB's time to live documents it, but without delay:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html
"""

from __future__ import annotations

import copy
import io
import json
import math
import os
import threading
import time
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from twolane_local.journal.files import write_line
from twolane_local.model import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
    from collections.abc import Callable, Iterable, Mapping


#: Held by each request to DynamoDB, and by other code that reads or changes its tables.
REQUESTS = threading.RLock()

#: The methods that moto's CloudFormation calls.
_FROM_A_TEMPLATE = ("create_table", "delete_table", "update_table", "update_time_to_live")


@contextmanager
def one_request_at_a_time() -> Iterator[None]:
    """Patch moto within the block: requests do not overlap, and transactions are atomic."""
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
            len(item) != 1 or not item.keys() <= _CONDITIONAL_WRITES.keys()
            for item in transact_items
        ):
            stock(self, transact_items)  # raises
            return
        writes = [next(iter(item.items())) for item in transact_items]
        keys = [_key(self, write) for _, write in writes]
        targets = {
            (write["TableName"], str(key)) for (_, write), key in zip(writes, keys, strict=True)
        }
        if len(targets) < len(writes):
            stock(self, transact_items)  # raises
            return
        reasons = [_refusal(self, write, key) for (_, write), key in zip(writes, keys, strict=True)]
        if any(code for code, _, _ in reasons):
            raise _cancelled(reasons)
        with _all_or_nothing(self.get_table(write["TableName"]) for _, write in writes):
            for place, (kind, write) in enumerate(writes):
                try:
                    _CONDITIONAL_WRITES[kind](self, write, keys[place])
                except Exception as error:
                    reasons[place] = type(error).__name__, str(error), None
                    if _is_invalid(error):
                        raise
                    raise _cancelled(reasons) from error

    return transact_write_items


def _execute(stock: Callable[..., Any]) -> Callable[..., Any]:
    """PartiQL's transaction; moto keeps the statements before the one that failed."""

    def execute_transaction(self: Any, statements: list[dict[str, Any]]) -> Any:
        with _all_or_nothing(self.tables.values()):
            return stock(self, statements)

    return execute_transaction


@contextmanager
def _all_or_nothing(tables: Iterable[Any]) -> Iterator[None]:
    """Restore the items of the tables if the block raises. It must write new objects only."""
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


def _update(backend: Any, write: dict[str, Any], key: dict[str, Any]) -> None:
    table = backend.get_table(write["TableName"])
    hash_key, range_key = backend.get_keys_value(table, key)
    if (item := table.get_item(hash_key, range_key)) is not None:
        # moto changes the item in place.
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


_CONDITIONAL_WRITES: dict[str, Callable[[Any, dict[str, Any], dict[str, Any]], None]] = {
    "Put": lambda backend, write, _: backend.put_item(write["TableName"], write["Item"]),
    "Delete": lambda backend, write, key: backend.delete_item(write["TableName"], key),
    "Update": _update,
    "ConditionCheck": lambda *_: None,
}


def _key(backend: Any, write: dict[str, Any]) -> dict[str, Any]:
    table = backend.get_table(write["TableName"])
    names = [name for name in (table.hash_key_attr, table.range_key_attr) if name]
    values: dict[str, Any] = write["Item"] if "Item" in write else write["Key"]
    return {name: values[name] for name in names if name in values}


def _refusal(
    backend: Any, write: dict[str, Any], key: dict[str, Any]
) -> tuple[str | None, str | None, Any]:
    """A cancellation reason as moto has them: code, message, the current item."""
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


FILE = "tables.jsonl"
_WRITES = frozenset(
    {"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems",
     "ExecuteStatement", "BatchExecuteStatement", "ExecuteTransaction"}
)  # fmt: skip
_VERSION = "DynamoDB_20120810."


class TableLog:
    """A WSGI app in front of moto's. Call ``replay`` once, when the tables exist."""

    def __init__(self, app: Wsgi, directory: Path) -> None:
        self._app = app
        directory.mkdir(parents=True, exist_ok=True)
        self._path = directory / FILE
        self._file = -1
        self._items: Callable[[], Iterable[tuple[str, dict[str, Any]]]] = tuple
        #: True if a write of moto could not be written to disk.
        self._behind = False

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        service, _, action = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        if self._behind and service.startswith("DynamoDB_"):
            with REQUESTS:
                if not self._caught_up():
                    return _refuse(start_response)
        if action not in _WRITES:
            return self._app(environ, start_response)
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(body)
        started: list[Any] = []
        # Held until the write is in the log as well: the log has moto's order, and nobody reads a
        # value that a kill could undo.
        with REQUESTS:
            answer = list(self._app(environ, lambda *how: started.extend(how)))
            if str(started[0]).startswith("200"):
                try:
                    self._append({"action": action, "body": json.loads(body)})
                except OSError:
                    self._behind = True
                    if not self._caught_up():
                        return _refuse(start_response)
        start_response(*started[:2])
        return answer

    def _append(self, entry: dict[str, Any]) -> None:
        """Raises ``OSError``, with the log as it was."""
        if self._file < 0:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        write_line(self._file, entry)

    def _caught_up(self) -> bool:
        """True if the disk has all writes; until then requests fail, as a kill could undo them."""
        if self._behind:
            try:
                self._rewrite()
            except OSError:
                return False
            self._behind = False
        return True

    def close(self) -> None:
        """Close the file; the next write opens it again."""
        with REQUESTS:
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def replay(self, items: Callable[[], Iterable[tuple[str, dict[str, Any]]]]) -> None:
        """Repeat the logged writes, then rewrite the log with ``items``: (table, item) pairs."""
        with REQUESTS:
            for entry in self._entries():
                # moto refuses a write to a table that the template has dropped.
                send(self._app, entry["action"], entry["body"])
            self._items = items
            self._rewrite()

    def _rewrite(self) -> None:
        """Raises ``OSError``, with the log as it was."""
        aside = self._path.with_suffix(".new")
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
        try:
            for table, item in self._items():
                body = {"TableName": table, "Item": item}
                write_line(descriptor, {"action": "PutItem", "body": body})
        finally:
            os.close(descriptor)
        aside.replace(self._path)
        self.close()

    def _entries(self) -> Iterable[dict[str, Any]]:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):  # a half-written last line was never answered
                    yield json.loads(line)


def _refuse(start_response: Callable[..., Any]) -> list[bytes]:
    """Answer with DynamoDB's internal error, which clients retry.

    https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
    """
    answer = {
        "__type": "com.amazonaws.dynamodb.v20120810#InternalServerError",
        "message": "the directory of --persist is full or not writable; make room there",
    }
    content = json.dumps(answer).encode()
    headers = [
        ("Content-Type", "application/x-amz-json-1.0"),
        ("Content-Length", str(len(content))),
    ]
    start_response("500 Internal Server Error", headers)
    return [content]


def send(app: Wsgi, action: str, body: dict[str, Any]) -> None:
    """Make a call to DynamoDB and ignore its response."""
    content = json.dumps(body).encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/",
        "QUERY_STRING": "",
        "SERVER_NAME": "127.0.0.1",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "HTTP_HOST": "dynamodb.us-east-1.amazonaws.com",
        "HTTP_X_AMZ_TARGET": _VERSION + action,
        "HTTP_AUTHORIZATION": (
            "AWS4-HMAC-SHA256 Credential=local/20260101/us-east-1/dynamodb/aws4_request, "
            "SignedHeaders=host, Signature=0"
        ),
        "CONTENT_TYPE": "application/x-amz-json-1.0",
        "CONTENT_LENGTH": str(len(content)),
        "wsgi.input": io.BytesIO(content),
        "wsgi.errors": io.StringIO(),
        "wsgi.url_scheme": "http",
        "wsgi.version": (1, 0),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    list(app(environ, lambda *_: None))


#: Items that expired longer ago than this stay: see the page above.
_TOO_OLD_S = 5 * 365 * 86_400.0

#: The header with the time of the emulator's clock, which tests can advance.
NOW = "x-twolane-now"


class ExpiredItem(NamedTuple):
    """An expired item, in DynamoDB's JSON: its key, and the attribute with its time to live."""

    table: str
    key: dict[str, Any]
    attribute: str
    until: dict[str, str]


def expired_items(now: float) -> Iterator[ExpiredItem]:
    """The items that have expired at ``now`` (epoch seconds) in all tables with a time to live."""
    for name, table in _tables().items():
        if table.ttl.get("TimeToLiveStatus") != "ENABLED":
            continue
        attribute = table.ttl["AttributeName"]
        keys = [key for key in (table.hash_key_attr, table.range_key_attr) if key]
        for item in table.all_items():
            until = item.attrs.get(attribute)
            if _is_over(until, now):
                key = {each: item.attrs[each].to_json() for each in keys}
                yield ExpiredItem(name, key, attribute, until.to_json())


def expire(now: float) -> None:
    """Delete the expired items."""
    with REQUESTS:
        for gone in list(expired_items(now)):
            table = _tables()[gone.table]
            table.delete_item(*_backend().get_keys_value(table, gone.key))


class Expiry:
    """A WSGI app in front of another one, to which it sends a deletion of each expired item."""

    def __init__(self, app: Wsgi, clock: Callable[[], float] = time.time) -> None:
        self._app, self._clock = app, clock
        self._lock = threading.Lock()
        self._looked = -math.inf

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if environ.get("HTTP_X_AMZ_TARGET", "").startswith("DynamoDB_"):
            self._look(float(environ.get("HTTP_X_TWOLANE_NOW") or self._clock()))
        return self._app(environ, start_response)

    def _look(self, now: float) -> None:
        # A time to live is in whole seconds.
        with self._lock:
            if math.floor(now) <= self._looked:
                return
            self._looked = math.floor(now)
            with REQUESTS:
                over = list(expired_items(now))
            for gone in over:
                # The condition fails if the item was written again meanwhile.
                send(
                    self._app,
                    "DeleteItem",
                    {
                        "TableName": gone.table,
                        "Key": gone.key,
                        "ConditionExpression": "#ttl = :until",
                        "ExpressionAttributeNames": {"#ttl": gone.attribute},
                        "ExpressionAttributeValues": {":until": gone.until},
                    },
                )


def _is_over(until: Any, now: float) -> bool:
    """True for an expired time to live, a number of epoch seconds; other types never expire."""
    if until is None or until.type != "N":
        return False
    return now - _TOO_OLD_S < float(until.value) <= now


def _tables() -> Mapping[str, Any]:
    tables: Mapping[str, Any] = _backend().tables
    return tables


def _backend() -> Any:
    from moto.dynamodb.models import dynamodb_backends

    return dynamodb_backends[ACCOUNT][REGION]
