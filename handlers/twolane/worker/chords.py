"""Celery's DynamoDB result backend, with a chord counter that no redelivery can mislead.

Celery adds one to a number for each header task that ends. A header that is delivered twice is
counted twice, and the body then starts too early; one that comes back after the body has started
finds the group gone, and turns the finished chord into a failure. (Celery's Redis backend keeps the
parts by their task and is safe.) Here the counter is a *set* of the parts that have ended, and a
finished chord leaves a mark behind in the place of nothing.

A set grows with its parts (nine bytes each), so a chord can have some forty thousand headers before
it reaches DynamoDB's 400 kB an item. ``twolane.worker.hooks`` puts it behind ``dynamodb://``.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from contextvars import ContextVar
from typing import Any

from celery.backends.dynamodb import DynamoDBBackend as CeleryBackend

from twolane.worker.bodies import with_marked_body
from twolane.worker.ending import sent_s
from twolane.worker.fitting import fitted
from twolane.worker.table_results import TableResults

logger = logging.getLogger("twolane.worker")

#: The counter of the chord at hand, and how many parts have ended, this one counted.
_counted: ContextVar[tuple[str, int] | None] = ContextVar("twolane_chord_parts", default=None)


class DynamoDBBackend(TableResults):
    """``dynamodb://``, in Celery's own table and format but for the chord's counter, and for what
    no item can hold.
    """

    def _set_with_state(self, key: Any, value: Any, state: Any) -> Any:
        return super()._set_with_state(key, fitted(value, self.decode, self.encode), state)

    def on_chord_part_return(self, request: Any, state: Any, result: Any, **kwargs: Any) -> None:
        """Count a part, then let Celery start the body if it was the last one."""
        if not request.group:
            return
        key = str(self.get_key_for_chord(request.group))
        parts = self._count(key, request.id)
        if parts is None:
            logger.info("part %s of chord %s ended before; not counted", request.id, request.group)
            return
        token = _counted.set((key, parts))
        try:
            marked = with_marked_body(request, sent_s())
            super().on_chord_part_return(marked, state, result, **kwargs)
        finally:
            _counted.reset(token)

    def incr(self, key: Any) -> int:
        """What Celery calls in the middle of its chord logic: the part is counted already."""
        counted = _counted.get()
        return int(super().incr(key)) if counted is None else counted[1]

    def delete(self, key: Any) -> None:
        """As Celery's, but a chord that has ended is remembered as long as its results are."""
        counted = _counted.get()
        if counted is None or str(key) != counted[0]:
            super().delete(key)
            return
        self.client.put_item(
            TableName=self.table_name,
            Item={
                "id": {"S": str(key)},
                "chord_done": {"BOOL": True},
                "timestamp": {"N": str(time.time())},
                "ttl": {"N": self._until()},
            },
        )

    def _apply_chord_incr(self, header_result_args: Any, body: Any, **kwargs: Any) -> None:
        # No counter is set to zero: the first part makes it. A predecessor that is delivered twice
        # starts the same chord twice, and must not forget the parts that have ended by then.
        super(CeleryBackend, self)._apply_chord_incr(header_result_args, body, **kwargs)  # type: ignore[misc]

    def _count(self, key: str, task_id: str) -> int | None:
        """Add a part; the number of parts, or ``None`` where the chord has ended."""
        digest = hashlib.blake2b(task_id.encode(), digest_size=6).digest()
        client = self.client
        try:
            answer = client.update_item(
                TableName=self.table_name,
                Key={"id": {"S": key}},
                UpdateExpression="ADD chord_parts :part SET #ttl = :ttl",
                ConditionExpression="attribute_not_exists(chord_done)",
                ExpressionAttributeNames={"#ttl": "ttl"},
                ExpressionAttributeValues={
                    ":part": {"SS": [base64.b64encode(digest).decode()]},
                    ":ttl": {"N": self._until()},
                },
                ReturnValues="ALL_NEW",
            )
        except client.exceptions.ConditionalCheckFailedException:
            return None
        return len(answer["Attributes"]["chord_parts"]["SS"])

    def _until(self) -> str:
        chord_expires = self.chord_expires
        return str(int(time.time() + (chord_expires or 86_400)))
