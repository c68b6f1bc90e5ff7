"""Celery's DynamoDB results, each written on the condition that nothing has happened since.

Celery reads what is stored (a success is never overwritten) and then writes, whatever came in
between; an environment that is frozen there overwrites, once it thaws, what its successor has said.
Here a result replaces exactly what was seen, and how a running task ended is written together with
the end of its lease, on the condition that the lease is still its own:

- https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html
- https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html

The transaction of two writes takes twice their capacity, and saves two round trips. It needs
``dynamodb:PutItem`` and nothing else:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends.dynamodb import DynamoDBBackend
from kombu.utils.encoding import bytes_to_str

from twolane.errors import StoreUnavailableError
from twolane.state.dynamodb import item_of
from twolane.state.keys import LIMIT, digested
from twolane.state.patience import patient_boto
from twolane.worker.ending import EndsLeases, has_passed, running, stays
from twolane.worker.fitting import fitted
from twolane.worker.lease import LeaseState, read_lease

if TYPE_CHECKING:
    from twolane.worker.ending import Ending
    from twolane.worker.lease import Lease

_Stock: Any = DynamoDBBackend

#: Each loss means that somebody else has written: so many in a row are no accident.
_TRIES = 10

_CONFLICTS = frozenset(
    {"ConditionalCheckFailed", "ConditionalCheckFailedException", "TransactionConflict",
     "TransactionConflictException"}
)  # fmt: skip


class TableResults(EndsLeases, _Stock):  # type: ignore[misc]
    """Results in Celery's own table and format, and the leases beside them."""

    #: The key and the value that were written last, of a task that goes on: mostly what the next
    #: write finds.
    _wrote: tuple[str, str | bytes] | None = None

    def _get_key_for(self, prefix: Any, id: str, key: str = "") -> Any:  # noqa: A002
        found = super()._get_key_for(prefix, id, key)
        # Celery stores under the ``repr`` of these bytes. One that is too long for DynamoDB would
        # let the task run, and its result never be stored.
        if len(found) < LIMIT // 4 - 3 or len(repr(found)) <= LIMIT:
            return found
        return self.key_t(digested(bytes_to_str(found)))

    def _get_or_create_table(self) -> Any:
        # The first thing that Celery does with a client once it has one.
        patient_boto(self._client)
        return super()._get_or_create_table()

    def _store_result(
        self,
        task_id: str,
        result: Any,
        state: str,
        traceback: Any = None,
        request: Any = None,
        **_: Any,
    ) -> Any:
        meta = self._get_result_meta(
            result=result, state=state, traceback=traceback, request=request
        )
        meta["task_id"] = bytes_to_str(task_id)
        value = fitted(self.encode(meta), self.decode, self.encode)
        self._store(task_id, value, state)
        return result

    def _store(self, task_id: str, value: str | bytes, state: str) -> None:
        """Write until nobody came in between, or until what is there forbids it."""
        key = str(self.get_key_for_task(task_id))
        one = running(task_id)
        if one is not None and one.ended is not None:
            one = None
        seen = self._wrote[1] if self._wrote and self._wrote[0] == key else None
        late = one is not None and time.time() >= one.held.until - 1
        for attempt in range(_TRIES):
            if attempt or late:
                # The result first: had it changed after the lease was read, the write would fail.
                seen, lease = self._seen(key), self._lease(one)
                if self._stands(seen, state, one, lease):
                    return
                if one is not None and lease is not None and lease.text != one.held.text:
                    one = None  # a success while the other delivery runs: its lease is left alone
            last = state in states.READY_STATES or one is self._riding
            if self._write(key, value, seen, one if last else None):
                self._wrote = None if state in states.READY_STATES else (key, value)
                return
        raise StoreUnavailableError(
            f"the result of {task_id} changed {_TRIES} times while it was to be stored in the "
            f"DynamoDB table {self.table_name}; the message will be delivered again"
        )

    def _stands(
        self, seen: bytes | None, state: str, one: Ending | None, lease: Lease | None
    ) -> bool:
        """Whether what is stored stays."""
        stored = self.decode_result(seen)["status"] if seen is not None else None
        if one is not None and lease is not None and _is_own_end(one, lease):
            one.ended = lease  # it was written before, and the answer was lost
            return True
        if one is not None and has_passed(one, lease, state, stored, time.time()):
            one.drop(state, one.task_id)
            return True
        return stays(stored, state)

    def _write(
        self, key: str, value: str | bytes, seen: str | bytes | None, one: Ending | None
    ) -> bool:
        """Put the result in the place of what was seen; ``False`` where that has changed.

        With ``one``, the running task's: on the condition, too, that nobody else has its lease.
        """
        result = self._prepare_put_request(key, value)
        if seen is None:
            result["ConditionExpression"] = "attribute_not_exists(id)"
        else:
            result["ConditionExpression"] = "#result = :seen"
            result["ExpressionAttributeNames"] = {"#result": self._value_field.name}
            result["ExpressionAttributeValues"] = {":seen": {self._value_field.data_type: seen}}
        lease = None
        if one is not None:
            lease = one.last(self._ends_in) if one is self._riding else one.held
        try:
            if one is None or lease is None:
                self.client.put_item(**result)
                return True
            self.client.transact_write_items(
                TransactItems=[{"Put": result}, {"Put": self._own_lease(one, lease)}]
            )
        except self.client.exceptions.ClientError as error:
            if not _lost_a_race(error.response):
                raise
            return False
        if lease is not one.held:
            one.ended = lease
        return True

    def _own_lease(self, one: Ending, lease: Lease) -> dict[str, Any]:
        """The lease's write. One that does not end is written as it was: no other right is needed
        for that, where a bare condition is a right of its own.
        """
        return {
            "TableName": self.table_name,
            "Item": item_of(one.key, lease.text, lease.until),
            "ConditionExpression": "attribute_not_exists(id) OR #state = :held",
            "ExpressionAttributeNames": {"#state": "state"},
            "ExpressionAttributeValues": {":held": {"S": one.held.text}},
        }

    def _stored_state(self, task_id: str) -> str | None:
        seen = self._seen(str(self.get_key_for_task(task_id)))
        return str(self.decode_result(seen)["status"]) if seen is not None else None

    def _stored_lease(self, one: Ending) -> Lease | None:
        return self._lease(one)

    def _seen(self, key: str) -> bytes | None:
        item = self._item(key)
        value = item.get(self._value_field.name)
        return None if value is None else bytes(value[self._value_field.data_type])

    def _lease(self, one: Ending | None) -> Lease | None:
        if one is None:
            return None
        item = self._item(one.key)
        return read_lease(item["state"]["S"]) if item else None

    def _item(self, key: str) -> dict[str, Any]:
        request = self._prepare_get_request(key)
        item: dict[str, Any] = self.client.get_item(**request, ConsistentRead=True).get("Item", {})
        return item


def _is_own_end(one: Ending, lease: Lease) -> bool:
    same = lease.delivery.holder == one.held.delivery.holder
    return same and lease.state is not LeaseState.RUNNING


def _lost_a_race(response: dict[str, Any]) -> bool:
    """Whether a condition did not hold, or another write was at the same item.

    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html#API_TransactWriteItems_Errors
    """
    codes = {reason.get("Code") for reason in response.get("CancellationReasons", ())}
    codes = codes - {None, "None"} or {response.get("Error", {}).get("Code")}
    return codes <= _CONFLICTS
