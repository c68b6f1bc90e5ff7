"""moto's DynamoDB of a test: items expire in virtual time, and the store's faults strike here."""

from __future__ import annotations

import copy
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from botocore.exceptions import EndpointConnectionError, ReadTimeoutError

from twolane_local.aws.moto.dynamodb import REQUESTS, expire
from twolane_local.faults.commands import on_loop
from twolane_local.model import ACCOUNT, REGION
from twolane_local.testing.threads import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.clock import Clock
    from twolane_local.faults.injection import Faults

_SERVICE = "DynamoDB_"
_WRITES = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"})


class Tables:
    """Stands before moto's answers to DynamoDB's calls."""

    def __init__(
        self,
        faults: Faults,
        clock: Clock,
        *,
        changed: Callable[[], object] = lambda: None,
        done: Callable[[str], object] = lambda _: None,
    ) -> None:
        """``changed()`` hears that items may have been written, ``done(call)`` of each call that
        was carried out, before its answer is read.
        """
        self._faults, self._clock = faults, clock
        self._changed, self._done = changed, done

    def __call__(self, request: Any, answer: Callable[[Any], Any]) -> Any:
        """What ``answer(request)`` gives, if nothing goes wrong. Raises botocore's own errors,
        after which botocore tries again as its client says.
        """
        action = action_of(request.headers)
        if action is None:
            return answer(request)
        expire(self._clock.time())
        process = current.get()
        if process is None or on_loop(process.loop):
            return answer(request)
        process.check()
        if not self._faults.any_at("store", "store.write", "store.done"):
            return answer(request)
        target = f"{action} {key_of(request.body)}"
        for fault in self._faults.at("store", target):
            match fault.fault.name:
                case "store.down":
                    raise EndpointConnectionError(endpoint_url=request.url)
                case _:  # store.slow
                    process.sleep(float(fault.value("seconds")))
        lost = action in _WRITES and any(self._faults.at("store.write", target))
        with REQUESTS, _undone() if lost else _kept():
            answered = answer(request)
        if action in _WRITES:
            self._changed()
        self._done(target)
        if self._faults.at("store.done", target):
            raise ReadTimeoutError(endpoint_url=request.url)
        return answered


def _tables() -> Mapping[str, Any]:
    from moto.dynamodb.models import dynamodb_backends

    tables: Mapping[str, Any] = dynamodb_backends[ACCOUNT][REGION].tables
    return tables


@contextmanager
def _kept() -> Iterator[None]:
    yield


@contextmanager
def _undone() -> Iterator[None]:
    """What the block writes is lost."""
    before = {name: copy.deepcopy(table.items) for name, table in _tables().items()}
    yield
    for name, items in before.items():
        _tables()[name].items = items


def action_of(headers: Mapping[str, Any]) -> str | None:
    """The action of a call of DynamoDB's; ``None`` for another service's."""
    value = headers.get("X-Amz-Target") or ""
    service, _, action = (value.decode() if isinstance(value, bytes) else value).partition(".")
    return action if service.startswith(_SERVICE) else None


def key_of(body: Any) -> str:
    """The value of the first attribute of a call's (first) key or item; empty where it has none."""
    call = json.loads(body or b"{}")
    if "TransactItems" in call:
        (call,) = call["TransactItems"][0].values()
    for attribute in (call.get("Key") or call.get("Item") or {}).values():
        return str(next(iter(attribute.values())))
    return ""
