"""Celery's DynamoDB result backend, with chords that no redelivery misleads and no size slows down.

Celery adds one to a number for each header task that ends. A header that is delivered twice is
counted twice, and the body then starts too early; one that comes back after the body has started
finds the group gone, and turns the finished chord into a failure. (Celery's Redis backend keeps the
parts by their task and is safe.) Here each part is an item of its own, written together with the
count, on the condition that it was not there; so the count is exact, and what a part costs does not
grow with the chord: a transaction of two items of less than 1 KB takes four write units, and the
count that is read after it one read unit.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/capacity-mode-on-demand.html

One header task completes the chord, the first that sees the last part counted: it writes its name
into the counter, and whenever its message comes again, it completes the chord again. What it has
published by then is one piece of work, see ``twolane.worker.lease``. A finished chord leaves a mark
behind in the place of nothing; that and the parts go with the table's time to live, for which
DynamoDB takes no write units: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/TTL.html

``twolane.worker.hooks`` puts it behind ``dynamodb://``.
"""

from __future__ import annotations

import hashlib
import logging
import time
from typing import TYPE_CHECKING, Any

from celery.backends.dynamodb import DynamoDBBackend as CeleryBackend
from celery.canvas import maybe_signature
from celery.exceptions import ChordError
from celery.result import GroupResult, allow_join_result, result_from_tuple

from twolane.errors import StoreUnavailableError
from twolane.state.dynamodb import TRIES, read_all, wait_s
from twolane.worker.bodies import with_marked_body
from twolane.worker.ending import sent_s
from twolane.worker.fitting import LIMIT, fitted
from twolane.worker.limits import struck
from twolane.worker.outage import is_late, is_outage
from twolane.worker.table_results import TableResults

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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


class DynamoDBBackend(TableResults):
    """``dynamodb://``, in Celery's own table and format but for the parts of a chord, and for what
    no item can hold.
    """

    #: ``mget`` reads many at once here, which Celery's does one by one.
    supports_native_join = True

    def _set_with_state(self, key: Any, value: Any, state: Any) -> Any:
        return super()._set_with_state(key, fitted(value, self.decode, self.encode), state)

    def on_chord_part_return(self, request: Any, *_: Any, **__: Any) -> None:
        """Count a part; start the body if it was the last one."""
        if not request.group or not request.id:
            return
        self._struck = struck()
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
            self._complete(with_marked_body(request, sent_s()))
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
        """Whether it is this part's to complete the chord: the first one's that asks."""
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

    def _complete(self, request: Any) -> None:
        """Publish the body, or fail it, as Celery's own backend does.

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
            app.amqp._retry_publish(callback.delay, results)  # noqa: SLF001 - as Celery's backend
        except Exception as error:
            if is_outage(error) or is_late(error, self._struck):
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
        if len(value) <= LIMIT:
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
        chord_expires = self.chord_expires
        return str(int(time.time() + (chord_expires or 86_400)))


def _reason_of(header: Any) -> Callable[[Exception], str]:
    def reason(error: Exception) -> str:
        culprit = next(header._failed_join_report(), None)  # noqa: SLF001 - as Celery's backend
        return f"Dependency {culprit.id} raised {error!r}" if culprit is not None else repr(error)

    return reason


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(errors="replace"), digest_size=9).hexdigest()
