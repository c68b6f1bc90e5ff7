"""One record's run: its message, its lease, its limits, and how it ended.

``open_run`` makes a run of a record; ``twolane.worker.work`` takes it through Celery and settles
it. Nothing else keeps anything about a single record, so several can run side by side. Code that
Celery calls with a request or a message finds the run there: kombu acknowledges each message on its
channel, and the channel of a message is its run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from twolane.errors import MalformedMessageError
from twolane.publish.claimcheck import MAX_BODY_BYTES
from twolane.state.store import bounded
from twolane.worker.lease import BODY_OF, ORIGIN, Delivery, delivery_of, lease_key, prior_key
from twolane.worker.message import Envelope, TaskFacts, decoded, open_envelope, read_facts
from twolane.worker.records import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Set as AbstractSet

    from twolane.worker.lease import LeaseFence
    from twolane.worker.limits import Deadline
    from twolane.worker.records import Record, TaskEnd


@dataclass(eq=False)
class Run:
    """One record on its way, from its event to the answer for it.

    ``problem`` is why the message cannot be read; ``envelope`` and ``facts`` are then absent.
    ``fence`` is the lease, once it is taken. ``end`` is how the task ended, once it has run.
    ``outcome`` is what Celery or the worker says of the message, ``wait_s`` how long a message that
    goes back should stay away.
    """

    record: Record
    envelope: Envelope | None = None
    facts: TaskFacts | None = None
    problem: Exception | None = None
    deadline: Deadline | None = None
    fence: LeaseFence | None = None
    end: TaskEnd | None = None
    outcome: Outcome | None = None
    wait_s: float | None = None

    #: kombu asks a channel for the consumers that need no acknowledgement; there are none.
    no_ack_consumers: ClassVar[None] = None

    @property
    def task_id(self) -> str | None:
        return self.facts.task_id if self.facts else None

    @property
    def publish_key(self) -> tuple[str | None, str]:
        """The publish that the message is of, which all its copies share."""
        if self.facts is None:
            return None, self.record.message_id
        return self.facts.task_id, self.facts.publish or self.record.message_id

    @cached_property
    def lease_key(self) -> str | None:
        facts = self.facts
        return bounded(lease_key(facts.headers, facts.task_id)) if facts else None

    @cached_property
    def prior_key(self) -> str | None:
        """The key of the attempt that published this retry."""
        facts = self.facts
        found = prior_key(facts.headers, facts.task_id) if facts else None
        return bounded(found) if found else None

    @cached_property
    def delivery(self) -> Delivery:
        record, facts = self.record, self.facts
        times = record.sent_s, record.first_received_s
        publish = facts.publish if facts else None
        origins = [facts.headers.get(name) for name in (BODY_OF, ORIGIN)] if facts else []
        return delivery_of(
            record.receipt_handle, record.message_id, publish, *times, origins=origins
        )

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None:  # noqa: ARG002
        """As kombu's channels have it; the first word counts."""
        if multiple:
            raise NotImplementedError("Celery acknowledges task messages one by one")
        self.outcome = self.outcome or Outcome.ACKNOWLEDGED

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None:  # noqa: ARG002
        """As kombu's channels have it; the first word counts."""
        outcome = Outcome.REQUEUED if requeue else Outcome.REJECTED
        self.outcome = self.outcome or outcome


def run_of(message: Any) -> Run:
    """The run that one of kombu's messages belongs to; a request of Celery's has its message."""
    run: Run = message.channel
    return run


def open_run(
    record: Record,
    redeem: Callable[[str], str],
    accept: AbstractSet[str] = frozenset({"application/json"}),
    limit: int = MAX_BODY_BYTES,
    deadline: Deadline | None = None,
) -> Run:
    """Open one record; ``redeem`` gets a claim check's body, and may fail in its own ways.

    Raises nothing: an error is the run's own ``problem``, which is raised when its turn comes.
    """
    run = Run(record, deadline=deadline)
    try:
        if record.problem is not None:
            raise MalformedMessageError(record.problem)
        body = redeem(record.body)
    except Exception as error:  # noqa: BLE001 - it is about this record
        run.problem = error
        return run
    try:
        envelope = open_envelope(body)
        run.facts = read_facts(envelope, lambda one: decoded(one, accept, limit))
        run.envelope = envelope
    except MalformedMessageError as error:
        run.problem = error
    except Exception as error:  # noqa: BLE001 - no text may break more than its own record
        run.problem = MalformedMessageError(f"the message cannot be read: {error!r}")
        run.problem.__cause__ = error
    return run
