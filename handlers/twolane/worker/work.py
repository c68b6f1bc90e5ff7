"""One batch of records, one by one, through Celery; and what became of each."""

from __future__ import annotations

import logging
import random
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.exceptions import TaskRevokedError
from celery.worker import state as worker_state
from celery.worker.request import Request
from kombu.exceptions import SerializationError
from kombu.serialization import prepare_accept_content

from twolane.environment.invocation import sleep
from twolane.environment.logs import correlation
from twolane.errors import MalformedMessageError, RunawayError, StoreUnavailableError
from twolane.publish.claimcheck import max_body_size
from twolane.publish.headers import running
from twolane.worker.consumer import Channel, TaskConsumer, Timer
from twolane.worker.lease import LeaseState, write_lease
from twolane.worker.limits import alarms_at_hand
from twolane.worker.lookup import Lookup, Opened, Seen, open_record
from twolane.worker.message import to_message
from twolane.worker.outcomes import (
    Outcome,
    Settled,
    is_stopper,
    log_context,
    log_malformed,
    log_settled,
    log_started,
)
from twolane.worker.pool import Pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from celery import Celery

    from twolane.worker.delay import Deferral
    from twolane.worker.descent import Descent
    from twolane.worker.lease import Ahead, Lease, Leases
    from twolane.worker.limits import Deadline
    from twolane.worker.records import Record

logger = logging.getLogger("twolane.worker")

#: An ETA this close is waited for in place: a delay on SQS would be a whole second.
_IN_PLACE_S = 1.0

_PICKLE = frozenset({"application/x-python-serialize"})

#: What Celery raises of a message that it cannot make a request of, whatever is in it.
_UNREADABLE = (
    ArithmeticError, AttributeError, LookupError, RecursionError, SerializationError, TypeError,
    ValueError,
)  # fmt: skip

#: A lease without a deadline (a direct call) lasts as long as Lambda's longest timeout.
_LONGEST_RUN_S = 900.0


class Worker:
    """An execution environment's worker: it outlives the invocation, its batches do not."""

    def __init__(
        self,
        app: Celery,
        *,
        hostname: str,
        lookup: Lookup,
        leases: Leases | None,
        deferral: Deferral,
        descent: Descent,
        redeem: Callable[[str], str],
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], object] = sleep,
    ) -> None:
        self._lookup = lookup
        self._leases = leases
        self._seen = Seen()
        self._deferral = deferral
        self._descent = descent
        self._redeem = redeem
        self._clock = clock
        self._sleep = sleep
        self._max_body = max_body_size(app)
        # Whoever can write to the queue could run any code through pickle: not even on request.
        self._accept = (prepare_accept_content(app.conf.accept_content) or set()) - _PICKLE
        self._channel = Channel()
        self.pool = Pool(limit=1, app=app)
        self._timer = Timer()
        self.consumer = TaskConsumer(
            app,
            hostname=hostname,
            channel=self._channel,
            pool=self.pool,
            timer=self._timer,
            on_task_request=self._on_task_request,
        )
        self._opened: Opened | None = None
        self._held: Lease | None = None
        self._following: Opened | None = None
        self._ahead: Ahead | None = None
        self._wait_s: float | None = None

    def run(
        self,
        records: Iterable[Record],
        deadline: Deadline | None,
        tell: Callable[[Sequence[Opened]], object] = lambda _: None,
    ) -> list[Settled]:
        """Run a batch in order. Raises nothing that belongs to one record.

        ``tell`` is called with the batch once the store has answered, before anything runs.
        """
        batch = [
            open_record(record, self._redeem, self._accept, self._max_body) for record in records
        ]
        self.pool.begin_batch(deadline)
        settled: list[Settled] = []
        try:
            with self._lookup.store_at_hand(), alarms_at_hand():
                self._lookup.begin(batch)
                tell(batch)
                self._run_all(batch, deadline, settled)
        except StoreUnavailableError as error:
            logger.error("%s", error)  # noqa: TRY400 - the store's state, not a fault in the code
            settled += [self._close(one, Outcome.BROKEN) for one in batch[len(settled) :]]
        finally:
            self._following = None
            self._give_back()
        return settled

    def _run_all(
        self, batch: Sequence[Opened], deadline: Deadline | None, settled: list[Settled]
    ) -> None:
        waiting_groups: set[str | None] = set()
        for number, one in enumerate(batch):
            record = one.record
            is_fifo = record.is_fifo
            waits = is_fifo and record.group_id in waiting_groups
            if waits or (deadline is not None and deadline.too_late_to_start):
                self._following = None
                self._give_back()
                settled.append(self._close(one, Outcome.UNTOUCHED))
            else:
                self._lookup.refresh(batch, number)
                self._following = batch[number + 1] if number + 1 < len(batch) else None
                settled.append(self._run_one(one))
                self._give_back()
            if is_fifo and is_stopper(settled[-1].outcome):
                waiting_groups.add(record.group_id)

    def _run_one(self, one: Opened) -> Settled:
        self._opened, self._held, self._wait_s = one, None, None
        token = log_context(one.facts)
        headers = one.facts.headers if one.facts is not None else {}
        line = running.set((self._descent.following, headers))
        try:
            outcome = self._settle(one)
            if self._leases is None and outcome is Outcome.ACKNOWLEDGED:
                self._seen.end(self.pool.ran)
            self._end_lease(one, outcome)
            return self._close(one, outcome)
        finally:
            running.reset(line)
            correlation.reset(token)

    def _settle(self, one: Opened) -> Outcome:
        try:
            return self._stood_in_the_way(one) or self._receive(one)
        except MalformedMessageError as error:
            log_malformed(one.record, error)
            return Outcome.MALFORMED
        except RunawayError as error:
            logger.error("%s", error)  # noqa: TRY400 - it says all
            return Outcome.RUNAWAY
        except (Exception, SystemExit):
            # Whatever broke under Celery, or ends its worker there, is about this message only; it
            # comes back.
            logger.exception(
                "message %s was not settled; it will be delivered again", one.record.message_id
            )
            return Outcome.BROKEN

    def _stood_in_the_way(self, one: Opened) -> Outcome | None:
        if one.problem is not None:
            raise one.problem
        self._descent.check(one)
        if self._leases is None:
            return Outcome.DUPLICATE if self._seen.begin(one) else None
        if one.lease_key is None:
            return None
        prior = self._lookup.prior_lease(one)
        before = self._leases.obstacle(prior, one.delivery, only_running=True)
        if before is not None:
            # Celery publishes a retry before it stores RETRY; the retry's own result, stored in
            # between by another environment, would be overwritten for good. That is a moment; an
            # attempt that was killed in it has its lease until that runs out, and a look each
            # second would use up the retry's receives.
            self._wait_s = 1.0 if one.record.receive_count == 1 else self._left_s(before)
            return Outcome.BUSY
        outcome = self._give_way(self._leases.obstacle(self._lookup.lease(one), one.delivery))
        if outcome is None and one.prior_key is not None and prior is None:
            # It was killed after it had published this retry. When its message comes back, after
            # the end of this attempt perhaps, there is nothing left to do, and RETRY is no news.
            self._leases.end_unheld(one.prior_key, one.delivery)
        return outcome

    def _give_way(self, lease: Lease | None) -> Outcome | None:
        if lease is None:
            return None
        if lease.state is LeaseState.DONE:
            return Outcome.DUPLICATE
        if lease.state is LeaseState.REJECTED:
            return Outcome.REJECTED
        self._wait_s = self._left_s(lease)
        return Outcome.BUSY

    def _left_s(self, lease: Lease) -> float:
        """Until the lease has run out, and not for all that wait for one at the same time."""
        return max(1.0, lease.until - self._clock()) + random.uniform(0, 1)  # noqa: S311

    def _receive(self, one: Opened) -> Outcome:
        record = one.record
        if one.envelope is None:
            raise MalformedMessageError
        try:
            message = to_message(one.envelope, record, self._channel, self._accept, self._max_body)
            self.consumer.receive(message)
            self._empty_timer(record)
        except _UNREADABLE as error:
            if self.pool.ran is None and self._held is None:
                # Nothing has run: Celery could not make a request of it.
                raise MalformedMessageError(
                    f"Celery could not read the message: {error!r}"
                ) from error
            raise
        finally:
            outcome = self._channel.take(record.message_id)
        return outcome

    def _empty_timer(self, record: Record) -> None:
        for delay_s, entry in self._timer.take():
            if 0 < delay_s <= _IN_PLACE_S:
                self._sleep(delay_s)
            if delay_s <= _IN_PLACE_S:
                entry()
                continue
            for request in _requests(entry.args[0]):
                worker_state.task_ready(request)
            sent = self._deferral.defer(record, delay_s, self._clock())
            self._channel.mark(record.message_id, Outcome.DEFERRED if sent else Outcome.POSTPONED)
            self._wait_s = delay_s

    def _on_task_request(self, request: Any) -> None:
        """What a stock worker does to hand a request to its pool, with the lease taken first."""
        one = self._opened
        assert one is not None  # noqa: S101 - set before the consumer is called
        if request.revoked():
            return
        _check_canvas(request)
        way = self._take_lease(one)
        if way is not None:
            worker_state.task_ready(request)
            self._channel.mark(one.record.message_id, way)
            return
        log_started(one.record, request, one.facts.retries if one.facts else 0)
        with suppress(TaskRevokedError):  # between the look above and the start: it is settled
            self._execute(one, request)

    def _execute(self, one: Opened, request: Any) -> None:
        """Run it; where it can, the result backend ends the lease as it stores the success."""
        held, leases = self._held, self._leases
        if held is None or leases is None or not leases.beside_results:
            request.execute_using_pool(self.pool)
            return
        from twolane.worker.lease import Ending, ending

        finish = partial(leases.ended, held, LeaseState.DONE)
        riding = Ending(
            str(one.task_id), str(one.lease_key), held, finish, leases.keep_s,
            following=partial(self._next_lease, one),
        )  # fmt: skip
        token = ending.set(riding)
        try:
            request.execute_using_pool(self.pool)
        finally:
            ending.reset(token)
            # Where another delivery has the work, its lease is not for this one to end: a header
            # whose chord is still to count it would be taken for done.
            self._held = None if riding.passed else riding.ended or held
            self._ahead = riding.taken

    def _next_lease(self, one: Opened) -> Ahead | None:
        """The next record's lease, taken as this one's result is stored, if nothing is against it.

        A round trip less for each record. Whatever then keeps that record from starting, the lease
        is given back; an environment that dies in between leaves a lease that ends with the
        function's timeout, as if the task had just been started.
        """
        from twolane.worker.lease import Ahead

        following, deadline = self._following, self.pool.deadline
        if following is None or following.facts is None or following.lease_key is None:
            return None
        if (
            following.lease_key == one.lease_key
            or following.record.is_fifo
            or following.prior_key is not None
            or following.facts.waits
            or self._lookup.lease(following) is not None
            or following.task_id in worker_state.revoked
            or (deadline is not None and deadline.too_late_to_start)
        ):
            return None
        wanted = self._running_lease(following)
        return Ahead(following.lease_key, wanted, max(1.0, wanted.until - wanted.since))

    def _give_back(self) -> None:
        """Release what was taken ahead, unless it is the next record's."""
        ahead, following = self._ahead, self._following
        if ahead is None or (following is not None and following.delivery == ahead.wanted.delivery):
            return
        self._ahead = None
        assert self._leases is not None  # noqa: S101 - it was taken by them
        try:
            self._leases.release(ahead.key, ahead.wanted)
        except StoreUnavailableError as error:
            # It ends with the function's timeout, before the message comes back.
            logger.warning("%s", error)

    def _take_lease(self, one: Opened) -> Outcome | None:
        if self._leases is None or one.lease_key is None:
            return None
        ahead = self._ahead
        if ahead is not None and ahead.wanted.delivery == one.delivery:
            self._held, self._ahead = ahead.wanted, None
            return None
        wanted = self._running_lease(one)
        stood = self._leases.take(one.lease_key, self._lookup.lease(one), wanted)
        if stood is None:
            self._held = wanted
        return self._give_way(stood)

    def _running_lease(self, one: Opened) -> Lease:
        deadline = self.pool.deadline
        left_s = _LONGEST_RUN_S if deadline is None else deadline.remaining_s
        now = self._clock()
        return write_lease(
            LeaseState.RUNNING,
            one.delivery,
            since=now,
            until=now + left_s + 1,
            worker=self.consumer.hostname,
        )

    def _end_lease(self, one: Opened, outcome: Outcome) -> None:
        held, self._held = self._held, None
        if held is None or one.lease_key is None or self._leases is None:
            return
        try:
            if outcome is Outcome.ACKNOWLEDGED:
                if held.state is LeaseState.RUNNING:  # else it ended as the result was stored
                    self._leases.end(one.lease_key, held, LeaseState.DONE)
            elif outcome is Outcome.REJECTED:
                self._leases.end(one.lease_key, held, LeaseState.REJECTED)
            else:
                self._leases.release(one.lease_key, held)
        except StoreUnavailableError as error:
            # The work itself is settled; only a second delivery would not be recognised.
            logger.warning("%s", error)

    def _close(self, one: Opened, outcome: Outcome) -> Settled:
        settled = Settled(one.record, outcome, self._wait_s)
        log_settled(settled, one.facts, self.pool.take_ran())
        self._wait_s = None
        return settled


def _check_canvas(request: Any) -> None:
    """Refuse a body whose third part is none, before its task's lease is taken.

    Celery's tracer unpacks it right before the task is called. (Of protocol 1, Celery makes it.)
    """
    parts = request.message.payload
    embed = parts[2] if isinstance(parts, list) else None
    if embed and not isinstance(embed, dict):
        worker_state.task_ready(request)
        raise MalformedMessageError("the third part of its body, the canvas, is no object")


def _requests(waiting: Any) -> list[Any]:
    """The requests behind a timer entry: an ETA's request, or all that a rate limit holds back."""
    if isinstance(waiting, Request):
        return [waiting]
    held = []
    while waiting.contents:
        request, _ = waiting.contents.popleft()
        held.append(request)
    return held
