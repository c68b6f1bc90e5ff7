"""Celery's DynamoDB result backend, with results behind the lease's fence, and safe chords.

**Results.** Celery reads what is stored (a success is never overwritten) and then writes, whatever
came in between; an environment that is frozen there overwrites its successor's result once it
thaws. Here a result replaces exactly the one that was seen, and the last result of a running task
is written together with the end of its lease, on the condition that the lease is still its own:

- https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.ConditionExpressions.html
- https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis.html

The transaction of two writes takes twice their capacity, and saves two round trips. It needs
``dynamodb:PutItem`` and nothing else:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html

**Chords.** Celery adds one to a number for each header task that ends. A header that is delivered
twice is counted twice, and the body then starts too early; one that comes back after the body has
started finds the group gone, and turns the finished chord into a failure. (Celery's Redis backend
keeps the parts by their task and is safe.) Here each part is an item of its own, written together
with the count, on the condition that it was not there; so the count is exact, and the cost of a
part does not grow with the chord: a transaction of two items of less than 1 KB takes four write
units, and the count that is read after it one read unit.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/capacity-mode-on-demand.html

One header task completes the chord, the first that sees the last part counted: it writes its name
into the counter, and whenever its message comes again, it completes the chord again. The body that
it has published by then is one piece of work, see ``twolane.worker.lease``. A finished chord leaves
a mark behind; that and the parts go with the table's time to live, for which DynamoDB takes no
write units: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html

**Size.** An item holds 400 KB. ``result_extended`` stores a task's arguments with each of its
states: a task whose arguments came by claim check could then not store that it has started, and
would be delivered until it is dead lettered. Its arguments go in short form. A return value that is
too big by itself is the task's own failure, which is stored at once, not retried.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html#limits-items

``twolane.patches.publishing`` puts the backend behind ``dynamodb://``.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any

from celery import states
from celery.backends.dynamodb import DynamoDBBackend as CeleryBackend
from celery.canvas import maybe_signature
from celery.exceptions import ChordError
from celery.result import GroupResult, allow_join_result, result_from_tuple
from celery.utils.saferepr import saferepr
from kombu.exceptions import EncodeError
from kombu.utils.encoding import bytes_to_str

from twolane.errors import StoreUnavailableError
from twolane.patches.clients import is_outage, patient_boto
from twolane.patches.versions import chord_expires, publish_callback
from twolane.state.dynamodb import TRIES, item_of, read_all, wait_s
from twolane.state.store import LIMIT, digested
from twolane.worker.lease import Change, FencedResults, Stored, read_lease, with_marked_body
from twolane.worker.limits import is_late, struck

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from twolane.worker.lease import Lease, LeaseFence

_Stock: Any = CeleryBackend

_CONFLICTS = frozenset(
    {"ConditionalCheckFailed", "ConditionalCheckFailedException", "TransactionConflict",
     "TransactionConflictException"}
)  # fmt: skip


logger = logging.getLogger("twolane.worker")

#: What DynamoDB does not do now, and may do at once:
#: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
_PASSING = frozenset(
    {"TransactionConflict", "ThrottlingError", "ProvisionedThroughputExceeded"}
)  # fmt: skip
_NONE = {"N": "0"}
_LOST = "ConditionalCheckFailed"

#: Of a group that is more than an item holds: four of them come in one answer of 1 MB.
_PIECE = 250 * 1024


class DynamoDBBackend(FencedResults, _Stock):  # type: ignore[misc]
    """``dynamodb://``, in Celery's own table and format, but for the parts of a chord, and values
    that are too big for an item.
    """

    #: ``mget`` reads many at once here, which Celery's does one by one.
    supports_native_join = True

    def get_key_for_task(self, task_id: Any, key: Any = "") -> str:
        return str(super().get_key_for_task(task_id, key))  # as Celery itself stores it

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

    def _fitted(self, value: str | bytes) -> str | bytes:
        return fitted(value, self.decode, self.encode)

    def _look(self, key: Any, fence: LeaseFence | None) -> Stored:
        # The result first: had it changed after the lease was read, the write would fail.
        value = self._item(key).get(self._value_field.name)
        result = None if value is None else bytes(value[self._value_field.data_type])
        lease = self._item(fence.key) if fence is not None else None
        return Stored(result, read_lease(lease["state"]["S"]) if lease else None)

    def _write(self, change: Change) -> Stored | None:
        result = self._prepare_put_request(change.key, change.value)
        if change.seen is None:
            result["ConditionExpression"] = "attribute_not_exists(id)"
        else:
            field = self._value_field
            result["ConditionExpression"] = "#result = :seen"
            result["ExpressionAttributeNames"] = {"#result": field.name}
            result["ExpressionAttributeValues"] = {":seen": {field.data_type: change.seen}}
        fence, expected, ended = change.fence, change.expected, change.ended
        # A state of a task that goes on is not worth a transaction.
        last = change.state in states.READY_STATES or ended is not None
        try:
            if fence is None or expected is None or not last:
                self.client.put_item(**result)
            else:
                lease = self._put_lease(fence.key, expected, ended or expected)
                self.client.transact_write_items(TransactItems=[{"Put": result}, {"Put": lease}])
        except self.client.exceptions.ClientError as error:
            if not _lost_a_race(error.response):
                raise
            return self._look(change.key, fence)
        return None

    def _put_lease(self, key: str, expected: Lease, lease: Lease) -> dict[str, Any]:
        """The lease's write. One that does not end is written as it was: no other right is needed
        for that, where a bare condition is a right of its own.
        """
        return {
            "TableName": self.table_name,
            "Item": item_of(key, lease.text, lease.until),
            "ConditionExpression": "attribute_not_exists(id) OR #state = :held",
            "ExpressionAttributeNames": {"#state": "state"},
            "ExpressionAttributeValues": {":held": {"S": expected.text}},
        }

    def _item(self, key: str) -> dict[str, Any]:
        request = self._prepare_get_request(key)
        item: dict[str, Any] = self.client.get_item(**request, ConsistentRead=True).get("Item", {})
        return item

    def _set_with_state(self, key: Any, value: Any, state: Any) -> Any:
        return super()._set_with_state(key, self._fitted(value), state)

    def on_chord_part_return(self, request: Any, *_: Any, **__: Any) -> None:
        """Count a part; start the body if it was the last one."""
        if not request.group or not request.id:
            return
        since = struck()
        key = str(self.get_key_for_chord(request.group))
        part = _digest(f"{request.id}:{getattr(request, 'group_index', None)}")
        counter = self._count(key, part)
        if counter is None:
            logger.info("part %s of chord %s ended after it", request.id, request.group)
            return
        parts, size = (int(counter.get(name, _NONE)["N"]) for name in ("chord_count", "chord_size"))
        if not size:  # by a publisher without twolane; the group grows with the chord
            header = GroupResult.restore(request.group, backend=self)
            size = len(header or ())
        if parts < size:
            return
        if parts > size:
            logger.warning("chord %s has counted %s parts of %s", request.group, parts, size)
        elif self._claim(key, part):
            self._complete(with_marked_body(request), since)
            self._finish(key, request.group)

    def set_chord_size(self, group_id: Any, chord_size: int) -> None:
        """Celery says the size before it sends the last task of the header."""
        self.client.update_item(
            TableName=self.table_name,
            Key={"id": {"S": str(self.get_key_for_chord(group_id))}},
            UpdateExpression="SET chord_size = :size, #ttl = :ttl",
            ExpressionAttributeNames={"#ttl": "ttl"},
            ExpressionAttributeValues={
                ":size": {"N": str(chord_size)}, ":ttl": {"N": self._until()},
            },
        )  # fmt: skip

    def mget(self, keys: Sequence[Any]) -> list[Any]:
        name, kind = self._key_field.name, self._key_field.data_type
        wanted = [{name: {kind: key}} for key in dict.fromkeys(map(str, keys))]
        found: dict[str, Any] = {}
        for item in read_all(self.client, self.table_name, wanted, self._sleep):
            values = self._item_to_dict({"Item": item})
            found[values[name]] = values.get(self._value_field.name)
        return [found.get(str(key)) for key in keys]

    def _item_to_dict(self, raw_response: Any) -> dict[str, Any]:
        item = raw_response.get("Item", {})
        return {
            field.name: item[field.name][field.data_type]
            for field in self._available_fields
            if field.name in item
        }

    def _apply_chord_incr(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        # No counter is set to zero: the first part makes it. A predecessor that is delivered twice
        # starts the same chord twice, and must not forget the parts that have ended by then.
        super(CeleryBackend, self)._apply_chord_incr(header_result_args, body, **kwargs)  # type: ignore[misc]

    def _count(self, key: str, part: str) -> dict[str, Any] | None:
        """Count a part, once; the counter, or ``None`` where the chord has ended."""
        client, until = self.client, {"N": self._until()}
        named = {"TableName": self.table_name}
        mark = {
            **named,
            "Item": {"id": {"S": f"{key}:{part}"}, "ttl": until},
            "ConditionExpression": "attribute_not_exists(id)",
        }
        count = {
            **named,
            "Key": {"id": {"S": key}},
            "UpdateExpression": "ADD chord_count :one SET #ttl = :ttl",
            "ConditionExpression": "attribute_not_exists(chord_done)",
            "ExpressionAttributeNames": {"#ttl": "ttl"},
            "ExpressionAttributeValues": {":one": {"N": "1"}, ":ttl": until},
        }
        for attempt in range(TRIES):
            try:
                client.transact_write_items(TransactItems=[{"Put": mark}, {"Update": count}])
            except client.exceptions.TransactionCanceledException as error:
                reasons = [one.get("Code") for one in error.response["CancellationReasons"]]
                if reasons[1] == _LOST:
                    return None
                if reasons[0] != _LOST:  # else it was counted before
                    if not _PASSING.intersection(reasons):
                        raise
                    self._sleep(wait_s(attempt))
                    continue
            counter = self._item(key)
            return None if "chord_done" in counter else counter
        raise StoreUnavailableError(
            f"too many parts of a chord ended at once for the DynamoDB table {self.table_name} to "
            "count them; the message will be delivered again"
        )

    def _claim(self, key: str, part: str) -> bool:
        """True if this part completes the chord, which is the first one that asks."""
        client = self.client
        try:
            client.update_item(
                TableName=self.table_name,
                Key={"id": {"S": key}},
                UpdateExpression="SET chord_by = :part",
                ConditionExpression="attribute_not_exists(chord_done) AND "
                "(attribute_not_exists(chord_by) OR chord_by = :part)",
                ExpressionAttributeValues={":part": {"S": part}},
            )
        except client.exceptions.ConditionalCheckFailedException:
            return False
        return True

    def _complete(self, request: Any, since: int) -> None:
        """Publish the body, or fail it, as Celery's own backend does.

        ``since``: which alarms had struck before.

        Raises the store's error where it is down: nothing is given up, the message comes again.
        """
        app: Any = self.app
        callback: Any = maybe_signature(request.chord, app=app)
        reason: Callable[[Exception], str] = "Cannot restore group: {!r}".format
        try:
            header = GroupResult.restore(request.group, backend=self)
            if header is None:
                raise LookupError(f"GroupResult {request.group} no longer exists")
            reason = _reason_of(header)
            with allow_join_result():
                results = header.join_native(
                    timeout=app.conf.result_chord_join_timeout, propagate=True
                )
            reason = "Callback error: {!r}".format
            publish_callback(app, callback.delay, results)
        except Exception as error:
            if is_outage(error) or is_late(error, since):
                raise
            logger.exception("chord %s could not start its body", request.group)
            chord_error = ChordError(reason(error))
            chord_error.__cause__ = error
            self.chord_error_from_stack(callback, chord_error)

    def _finish(self, key: str, group: str) -> None:
        """A chord that has ended is remembered as long as its results are."""
        self.client.put_item(
            TableName=self.table_name,
            Item={
                "id": {"S": key},
                "chord_done": {"BOOL": True},
                "timestamp": {"N": str(time.time())},
                "ttl": {"N": self._until()},
            },
        )
        self.delete_group(group)

    def _save_group(self, group_id: Any, result: Any) -> Any:
        """As Celery's; a group of some thousands is more than one item holds."""
        value = self.encode({"result": result.as_tuple()})
        if len(value) <= ITEM_LIMIT:
            return super()._save_group(group_id, result)
        pieces = [value[at : at + _PIECE] for at in range(0, len(value), _PIECE)]
        key = str(self.get_key_for_group(group_id))
        for number, piece in enumerate(pieces):
            self.set(f"{key}:{number}", piece)
        self.set(key, self.encode({"pieces": len(pieces)}))
        return result

    def _restore_group(self, group_id: Any) -> Any:
        key = str(self.get_key_for_group(group_id))
        meta = self.decode(self.get(key))
        if not meta:
            return None
        if "pieces" in meta:
            pieces = self.mget([f"{key}:{number}" for number in range(meta["pieces"])])
            if None in pieces:
                return None
            meta = self.decode(type(pieces[0])().join(pieces))
        return {**meta, "result": result_from_tuple(meta["result"], self.app)}

    def _delete_group(self, group_id: Any) -> None:
        key = str(self.get_key_for_group(group_id))
        meta = self.decode(self.get(key)) or {}
        for number in range(meta.get("pieces", 0)):
            self.delete(f"{key}:{number}")
        self.delete(key)

    def _until(self) -> str:
        return str(int(time.time() + (chord_expires(self) or 86_400)))


def _lost_a_race(response: dict[str, Any]) -> bool:
    """True if a condition did not hold, or another write was at the same item."""
    # https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html#API_TransactWriteItems_Errors
    codes = {reason.get("Code") for reason in response.get("CancellationReasons", ())}
    codes = codes - {None, "None"} or {response.get("Error", {}).get("Code")}
    return codes <= _CONFLICTS


def _reason_of(header: Any) -> Callable[[Exception], str]:
    def reason(error: Exception) -> str:
        culprit = next(header._failed_join_report(), None)  # noqa: SLF001 - as Celery's backend
        return f"Dependency {culprit.id} raised {error!r}" if culprit is not None else repr(error)

    return reason


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=9).hexdigest()


#: 400 KB with the names and the other attributes of the item, which take less than 1 KB.
ITEM_LIMIT = 399 * 1024
_ARGUMENTS = ("args", "kwargs")
_SHOWN = 1024


def fitted(
    value: str | bytes, decode: Callable[[Any], Any], encode: Callable[[Any], str | bytes]
) -> str | bytes:
    """The encoded result as it fits. Raises ``EncodeError``: for Celery, the task has failed."""
    if _size(value) <= ITEM_LIMIT:
        return value
    meta: dict[str, Any] = decode(value)
    short = {name: saferepr(meta[name], maxlen=_SHOWN) for name in _ARGUMENTS if meta.get(name)}
    value = encode({**meta, **short})
    if _size(value) <= ITEM_LIMIT:
        return value
    raise EncodeError(
        f"the result takes {_size(value):,} bytes, an item of DynamoDB {ITEM_LIMIT:,}: return the "
        "address of the big part, in S3 for example, or keep results in Redis"
    )


def _size(value: str | bytes) -> int:
    return len(value) if isinstance(value, bytes) else len(value.encode())
