"""A claimed slot becomes a message: ``apply_async`` as ``celery beat`` does it, with a fixed id.

With schedules that send one event for each entry and slot, the claim on a slot is a key of its own
in the state store: a thousand entries that are due at midnight must not fight over one ledger.
"""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager, nullcontext
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from twolane.beat.entries import iso
from twolane.errors import PublishError
from twolane.patches.versions import batch
from twolane.publish.errors import EnqueueBatchError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from celery import Celery

    from twolane.beat.entries import Entry
    from twolane.beat.ledger import Claim
    from twolane.state import StateStore

#: Names the entry and its slot in the message's headers, beside Celery's own ``celery_beat_task``.
ENTRY_HEADER = "twolane_entry"
SLOT_HEADER = "twolane_slot"


def send_all(
    app: Celery, entries: Mapping[str, Entry], claims: Sequence[Claim], now: float
) -> dict[str, BaseException]:
    """Put every slot on its queue, on SQS ten to a request; what failed, by task id, which does not
    stop the others.
    """
    failed: dict[str, BaseException] = {}
    try:
        with _shared_producer(app) as producer:
            for claim in claims:
                entry = entries[claim.entry]
                try:
                    send(app, entry, claim.task_id, claim.slot, now, producer=producer)
                except Exception as error:  # noqa: BLE001 - told by task id
                    failed[claim.task_id] = error
    except EnqueueBatchError as error:
        failed.update(dict.fromkeys(error.failures, error))
    except Exception as error:  # noqa: BLE001 - no producer, no message
        failed.update({claim.task_id: error for claim in claims})
    return failed


def send(
    app: Celery, entry: Entry, task_id: str, slot: float, now: float, *, producer: Any = None
) -> None:
    """Put one task on its queue; a slot that is to come with its time. A task that no module of the
    application has is sent by name.
    """
    options = dict(entry.options or {})
    headers: Mapping[str, Any] = options.get("headers") or {}
    options["headers"] = {
        **headers, "celery_beat_task": True, ENTRY_HEADER: entry.name, SLOT_HEADER: iso(slot)
    }  # fmt: skip
    if slot > now:
        # countdown and expires count from the slot, as if it were sent then.
        moment = datetime.fromtimestamp(slot, UTC)
        if "eta" not in options:
            options["eta"] = moment + timedelta(seconds=options.pop("countdown", None) or 0)
        if isinstance(options.get("expires"), (int, float)):
            options["expires"] = moment + timedelta(seconds=options["expires"])
    args = tuple(_evaluated(value) for value in entry.args)
    kwargs = {key: _evaluated(value) for key, value in (entry.kwargs or {}).items()}
    task = app.tasks.get(entry.task)
    if task is not None:
        task.apply_async(args, kwargs, task_id=task_id, producer=producer, **options)
    else:
        app.send_task(entry.task, args, kwargs, task_id=task_id, producer=producer, **options)


@contextmanager
def _shared_producer(app: Celery) -> Iterator[Any]:
    """One producer for all; on SQS its messages leave as batches when the block ends."""
    with app.producer_or_acquire() as producer:
        light = producer.connection.transport.driver_type == "sqs"
        with batch(producer) if light else nullcontext(), _declaring_once(producer):
            yield producer


@contextmanager
def _declaring_once(producer: Any) -> Iterator[None]:
    # kombu knows what it has declared, but copies the queue and its exchange for each message to
    # find that out: a tenth of the whole tick.
    declare, declared = producer.maybe_declare, set()

    def once(entity: Any, *args: Any, **kwargs: Any) -> None:
        if id(entity) not in declared:
            declare(entity, *args, **kwargs)
            declared.add(id(entity))

    producer.maybe_declare = once
    try:
        yield
    finally:
        del producer.maybe_declare


def _evaluated(value: Any) -> Any:
    """An argument, called if it is a ``BeatLazyFunc``; who uses one has imported celery.beat."""
    beat = sys.modules.get("celery.beat")
    return value() if beat is not None and isinstance(value, beat.BeatLazyFunc) else value


#: An event may come again for a day (Scheduler) and some hours (Lambda); then the claim may go.
_TTL_S = 3 * 86_400.0
_SENT = "sent"


@contextmanager
def claim_slot(store: StateStore, task_id: str, *, now: float, until: float) -> Iterator[bool]:
    """Tell whether the slot is ours to send; it is noted as sent, or free again after an exception.
    Raises ``PublishError`` while another invocation holds it: if it dies, Lambda's retry sends.
    """
    key = claim_key(task_id)
    mine = json.dumps(until)
    stood = store.swap(key, None, mine, ttl_s=_TTL_S)
    if stood == _SENT:
        yield False
        return
    if stood is not None and not _take_over(store, key, stood, mine, now):
        raise PublishError(
            f"task {task_id} is being sent by another invocation; "
            "if that one fails, this event's retry sends it"
        )
    try:
        yield True
    except BaseException:
        store.delete(key, expected=mine)
        raise
    store.put(key, _SENT, ttl_s=_TTL_S)


def claim_key(task_id: str) -> str:
    return f"twolane:tick:slot:{task_id}"


def _take_over(store: StateStore, key: str, stood: str, mine: str, now: float) -> bool:
    """Claim what a dead invocation left; an empty text says that it vanished meanwhile."""
    if stood and float(json.loads(stood)) > now:
        return False
    return store.swap(key, stood or None, mine, ttl_s=_TTL_S) is None
