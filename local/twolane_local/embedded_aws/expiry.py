"""Items of DynamoDB tables that are over: moto keeps them for ever.

DynamoDB deletes them within days, and reads still see them until then:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ttl-expired-items.html
Here they are gone as soon as a request could see that they are over: a result that nobody should
rely on is not there by luck, and an application's own time to live can be watched at work.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from twolane_local.embedded_aws.conditions import REQUESTS
from twolane_local.embedded_aws.tables import send
from twolane_local.template.values import ACCOUNT, REGION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from twolane_local.embedded_aws.tables import Wsgi

#: What expired longer ago than this stays: see the page above.
_TOO_OLD_S = 5 * 365 * 86_400.0

#: The emulator's time, which its clock may have moved, as a header of each request.
NOW = "x-twolane-now"


class Expired(NamedTuple):
    """An item that is over, in DynamoDB's JSON: its key, and what says that it is."""

    table: str
    key: dict[str, Any]
    attribute: str
    until: dict[str, str]


def expired(now: float) -> Iterator[Expired]:
    """What is over at ``now``, in seconds since the epoch, in each table of moto's that says so."""
    for name, table in _tables().items():
        if table.ttl.get("TimeToLiveStatus") != "ENABLED":
            continue
        attribute = table.ttl["AttributeName"]
        keys = [key for key in (table.hash_key_attr, table.range_key_attr) if key]
        for item in table.all_items():
            until = item.attrs.get(attribute)
            if _is_over(until, now):
                key = {each: item.attrs[each].to_json() for each in keys}
                yield Expired(name, key, attribute, until.to_json())


def expire(now: float) -> None:
    """Take out what is over."""
    with REQUESTS:
        for gone in list(expired(now)):
            table = _tables()[gone.table]
            table.delete_item(*_backend().get_keys_value(table, gone.key))


class Expiry:
    """A WSGI app in front of another one of DynamoDB's, which hears of each item that it loses."""

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
                over = list(expired(now))
            for gone in over:
                # Unless it was written anew in between.
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
    """Only numbers count, in whole seconds since the epoch."""
    if until is None or until.type != "N":
        return False
    return now - _TOO_OLD_S < float(until.value) <= now


def _tables() -> Mapping[str, Any]:
    tables: Mapping[str, Any] = _backend().tables
    return tables


def _backend() -> Any:
    from moto.dynamodb.models import dynamodb_backends

    return dynamodb_backends[ACCOUNT][REGION]
