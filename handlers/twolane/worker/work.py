"""A batch: each record becomes a run, goes through Celery, and is settled.

``Worker.run`` is the way of one batch, ``Worker._settle`` the way of one record up to Celery's
consumer. The consumer calls ``Worker._on_task_request`` back once it has made a request of the
message; there the lease is taken, and the pool runs the task.
"""

from __future__ import annotations

import logging
import math
import os
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
from twolane.errors import (
    ConfigurationError,
    MalformedMessageError,
    RunawayError,
    StoreUnavailableError,
)
from twolane.patches.clients import FENCE, Trouble, trouble_of
from twolane.publish.application import REFUSED, refusal
from twolane.publish.claimcheck import max_body_size
from twolane.publish.message import DEPTH, running
from twolane.worker.consumer import TaskConsumer, Timer
from twolane.worker.lease import LeaseFence, LeaseState
from twolane.worker.limits import alarms_at_hand
from twolane.worker.lookup import Finished, Lookup
from twolane.worker.message import to_message
from twolane.worker.pool import Pool
from twolane.worker.records import (
    Outcome,
    Run,
    Settled,
    is_stopper,
    log_context,
    log_malformed,
    log_settled,
    log_started,
    open_run,
    run_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from celery import Celery

    from twolane.worker.concurrency import Batch, Flight, SideBySide
    from twolane.worker.delay import Deferral
    from twolane.worker.descent import Descent
    from twolane.worker.lease import Lease, Leases
    from twolane.worker.limits import Deadline
    from twolane.worker.pool import Call
    from twolane.worker.records import Record

logger = logging.getLogger("twolane.worker")

#: An ETA this close is waited for in place: a delay on SQS would be a whole second.
_IN_PLACE_S = 1.0

#: The errors that Celery raises if it cannot make a request of a message, whatever is in it.
_UNREADABLE = (
    ArithmeticError, AttributeError, LookupError, RecursionError, SerializationError, TypeError,
    ValueError,
)  # fmt: skip

#: A lease without a deadline (a direct call) lasts as long as Lambda's longest timeout.
_LONGEST_RUN_S = 900.0

#: Leases are taken ahead, in one round trip, for as many tasks as start within this time if they
#: take as long as those before. Longer, and an environment that is killed keeps too many tasks
#: waiting that had not started. It saves 23 % of "a task, with Redis results and leases" in
#: ``benchmarks/worker.py``.
_AHEAD_S = 0.1

#: The state in which a lease ends with its message. After any other outcome the work is to run
#: again.
_LEASE_ENDS = {Outcome.ACKNOWLEDGED: LeaseState.DONE, Outcome.REJECTED: LeaseState.REJECTED}


class Worker:
    """The worker of an execution environment, which outlives its batches."""

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
        self._finished = Finished()
        self._deferral = deferral
        self._descent = descent
        self._redeem = redeem
        self._clock = clock
        self._sleep = sleep
        self._app = app
        self._threads, self._most = concurrency(app)
        self._several: SideBySide | None = None
        self._batch: Batch | None = None
        self._max_body = max_body_size(app)
        # Not accepted even on request.
        self._accept = (prepare_accept_content(app.conf.accept_content) or set()) - REFUSED.keys()
        self.pool = Pool(limit=max(1, self._threads), app=app)
        self.pool.threads = self._threads
        self._timer = Timer()
        #: How long a run takes, in seconds, by the last batch; infinite before the first one.
        self._pace_s = math.inf
        self.consumer = TaskConsumer(
            app,
            hostname=hostname,
            pool=self.pool,
            timer=self._timer,
            on_task_request=self._on_task_request,
            several=self._side_by_side,
        )

    def run(
        self,
        records: Iterable[Record],
        deadline: Deadline | None,
        announce: Callable[[Sequence[Run]], object] = lambda _: None,
    ) -> list[Settled]:
        """Run a batch in order. Raises nothing that belongs to one record.

        ``announce`` is called with the runs once the store has answered, before a task starts.
        """
        runs = [
            open_run(record, self._redeem, self._accept, self._max_body, deadline)
            for record in records
        ]
        settled: list[Settled] = []
        try:
            with self._lookup.store_at_hand(), alarms_at_hand():
                self._lookup.begin(runs)
                announce(runs)
                if self._goes_side_by_side(runs):
                    settled = self._run_side_by_side(runs)
                else:
                    self._run_in_order(runs, settled)
                if not any(run.store_failed for run in runs):
                    # Else it is not asked again: the leases run out by themselves.
                    self._release([run.ahead for run in runs if run.ahead is not None])
        except StoreUnavailableError as error:
            logger.error("%s", error)  # noqa: TRY400 - the store's state, not a fault in the code
            settled += [self.settled(run, Outcome.BROKEN) for run in runs[len(settled) :]]
        return settled

    def _goes_side_by_side(self, runs: Sequence[Run]) -> bool:
        if self._threads > 0:
            return True
        awaits = self.consumer.awaits
        return any([awaits[run.facts.name] for run in runs if run.facts is not None])  # noqa: C419 - quicker

    def _kind_of(self, run: Run) -> str:
        """The way in which its task runs: as a ``coroutine``, on a ``thread``, or ``here``."""
        if run.facts is not None and self.consumer.awaits[run.facts.name]:
            return "coroutine"
        return "thread" if self._threads > 0 and _takes_threads(run) else "here"

    def _side_by_side(self) -> SideBySide:
        if self._several is None:
            # Most environments run neither: they need not import asyncio.
            from twolane.worker.concurrency import SideBySide

            self._several = SideBySide(self._app)
        return self._several

    def _run_side_by_side(self, runs: Sequence[Run]) -> list[Settled]:
        from twolane.worker.concurrency import Batch

        began = self._clock()
        self._batch = Batch(
            self, self._side_by_side(), runs,
            kind_of=self._kind_of, most=self._most, most_threads=self._threads,
        )  # fmt: skip
        try:
            return self._batch.run()
        finally:
            self._batch = None
            self._pace_s = (self._clock() - began) / max(1, len(runs))

    def _run_in_order(self, runs: Sequence[Run], settled: list[Settled]) -> None:
        waiting_groups: set[str | None] = set()
        began = self._clock()
        for number, run in enumerate(runs):
            record, deadline = run.record, run.deadline
            is_fifo = record.is_fifo
            waits = is_fifo and record.group_id in waiting_groups
            if waits or (deadline is not None and deadline.too_late_to_start):
                settled.append(self.settled(run, Outcome.UNTOUCHED))
            else:
                self._lookup.refresh(runs, number)
                if run.ahead is None:
                    self.hold_ahead(runs[number:])
                one: Any = self.begin(run)  # which is taken nowhere
                settled.append(one)
                self._pace_s = (self._clock() - began) / (number + 1)
            if is_fifo and is_stopper(settled[-1].outcome):
                waiting_groups.add(record.group_id)

    def hold_ahead(self, runs: Sequence[Run], at_once: int = 0) -> None:
        """Take the leases of the next runs together, if there are several that start soon; as many
        as start ``at_once`` at least.
        """
        most = min(len(runs), max(at_once, int(_AHEAD_S / max(self._pace_s, 1e-6))))
        leases = self._leases
        if leases is None or most < 2:
            return
        chosen: dict[str, Run] = {}
        for run in runs[:most]:
            if run.ahead is None and run.lease_key is not None and self._starts(run):
                chosen.setdefault(run.lease_key, run)
        if len(chosen) < 2:
            return
        wanted = [(str(run.task_id), key, run.delivery) for key, run in chosen.items()]
        fences = leases.hold_many(
            wanted, for_s=self._lease_s(runs[0].deadline), worker=self.consumer.hostname,
            side_by_side=at_once > 0 and _takes_threads(runs[0]),
        )  # fmt: skip
        for run, fence in zip(chosen.values(), fences, strict=True):
            run.ahead = fence

    def _starts(self, run: Run) -> bool:
        """True if the run most probably takes its lease when its turn comes."""
        facts = run.facts
        return (
            facts is not None
            and run.problem is None
            and run.prior_key is None
            and facts.headers.get("eta") is None
            and self._lookup.lease(run) is None
            and facts.task_id not in worker_state.revoked
        )

    @staticmethod
    def _lease_s(deadline: Deadline | None) -> float:
        return 1 + (_LONGEST_RUN_S if deadline is None else deadline.remaining_s)

    def _release(self, fences: Sequence[LeaseFence]) -> None:
        """Give back the leases that were taken ahead for tasks that have not started."""
        if self._leases is None or not fences:
            return
        try:
            self._leases.release_many({fence.key: fence.held for fence in fences})
        except StoreUnavailableError as error:
            logger.warning("%s", error)

    def begin(self, run: Run) -> Settled | None:
        """Run one; ``None`` if it goes on somewhere else, with a copy of this context."""
        token = log_context(run.facts)
        marks = running.set(partial(self._mark, run))
        try:
            outcome = self._settle(run)
            return None if run.in_flight else self._end(run, outcome)
        finally:
            running.reset(marks)
            correlation.reset(token)

    def _end(self, run: Run, outcome: Outcome) -> Settled:
        if self._leases is None and outcome is Outcome.ACKNOWLEDGED:
            self._finished.remember(run)
        self._end_lease(run, outcome)
        if run.ahead is not None and not run.store_failed:
            # Its task has not started. Another message of the batch may be of the same work.
            self._release([run.ahead])
            run.ahead = None
        return self.settled(run, outcome)

    @staticmethod
    def _end_lease(run: Run, outcome: Outcome) -> None:
        if run.fence is None:
            return
        try:
            run.fence.end(_LEASE_ENDS.get(outcome))
        except StoreUnavailableError as error:
            # The work itself is settled; only a second delivery would not be recognised.
            logger.warning("%s", error)
            run.store_failed = True

    def execute(self, call: Call, flight: Flight) -> Settled:
        """Run what was taken to a thread, there."""
        run = call.run
        with self._lookup.store_at_hand():
            try:
                self.pool.execute(call, flight)
                outcome = run.outcome or Outcome.BROKEN
            except BaseException as error:  # noqa: BLE001 - what is not known is raised again
                outcome = self._failed(run, error)
            return self._end(run, outcome) if not flight.left else self._end_late(run, outcome)

    async def execute_awaiting(self, call: Call, flight: Flight) -> Settled:
        """Run what was taken to the loop, there."""
        run = call.run
        try:
            await self.pool.execute_awaiting(call, flight)
            outcome = run.outcome or Outcome.BROKEN
        except BaseException as error:  # noqa: BLE001 - what is not known is raised again
            outcome = self._failed(run, error)
        return self._end(run, outcome) if not flight.left else self._end_late(run, outcome)

    def _end_late(self, run: Run, outcome: Outcome) -> Settled:
        """The end of a run whose invocation has been answered without it."""
        logger.warning(
            "task %s has ended after its invocation; its message is delivered again, and finds its "
            "work done if the lease was still held", run.task_id,
        )  # fmt: skip
        self._end_lease(run, outcome)
        return Settled(run.record, outcome, run.wait_s)

    def left_behind(self, run: Run) -> Settled:
        """The end of a message whose task goes on: it comes back once the lease has run out."""
        if run.fence is not None:
            run.wait_s = self._left_s(run.fence.held)
        token = log_context(run.facts)
        try:
            return self.settled(run, Outcome.BROKEN)
        finally:
            correlation.reset(token)

    @property
    def has_looked_up(self) -> bool:
        """True if the store was asked a moment ago."""
        return self._lookup.is_fresh

    def refresh(self, runs: Sequence[Run]) -> None:
        """Ask the store again for these, if that is due. Raises ``StoreUnavailableError``."""
        self._lookup.refresh(runs)

    @staticmethod
    def settled(run: Run, outcome: Outcome) -> Settled:
        """The end of a run, which is logged."""
        run.outcome = outcome
        settled = Settled(run.record, outcome, run.wait_s)
        log_settled(settled, run.facts, run.end)
        return settled

    def _mark(self, run: Run, headers: dict[str, Any]) -> None:
        """Mark the headers of a task that the run's task publishes."""
        headers.update(self._descent.following(run.facts.headers if run.facts else {}))
        if run.fence is not None:
            run.fence.mark(headers)

    def _settle(self, run: Run) -> Outcome:
        """Let Celery have the message, unless a lease or the message itself is against it."""
        try:
            if run.problem is not None:
                raise run.problem
            if run.facts is not None and DEPTH in run.facts.headers:
                self._descent.check(run)
            return self._obstacle(run) or self._receive(run)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - it is about this message only
            return self._failed(run, error)

    @staticmethod
    def _failed(run: Run, error: BaseException) -> Outcome:
        """The outcome of a run that raised this; raises what is no matter of one run."""
        if isinstance(error, MalformedMessageError):
            log_malformed(run.record, error)
            return Outcome.MALFORMED
        if isinstance(error, RunawayError):
            logger.error("%s", error)
            return Outcome.RUNAWAY
        if isinstance(error, ConfigurationError):
            name = run.facts.name if run.facts else run.record.message_id
            logger.error("%s cannot run: %s", name, error)
            return Outcome.MALFORMED
        if not isinstance(error, Exception | SystemExit):
            raise error
        if isinstance(error, StoreUnavailableError) or trouble_of(error) is not Trouble.NONE:
            run.store_failed = True
        # Under Celery, or one that ends its worker there: the message comes back.
        logger.error(
            "message %s was not settled; it will be delivered again", run.record.message_id,
            exc_info=error,
        )  # fmt: skip
        return Outcome.BROKEN

    def _obstacle(self, run: Run) -> Outcome | None:
        """The outcome of a message whose work another delivery does or has done."""
        if self._leases is None:
            return Outcome.DUPLICATE if run in self._finished else None
        prior = self._lookup.prior_lease(run)
        before = self._leases.obstacle(prior, run.delivery, only_running=True)
        if before is not None:
            # Celery publishes a retry before it stores RETRY; the retry's own result, stored in
            # between by another environment, would be overwritten for good. That is a moment; an
            # attempt that was killed in it has its lease until that runs out, and a look each
            # second would use up the retry's receives.
            run.wait_s = 1.0 if run.record.receive_count == 1 else self._left_s(before)
            return Outcome.BUSY
        lease = self._leases.obstacle(self._lookup.lease(run), run.delivery)
        if lease is not None:
            return self._outcome_of(lease, run)
        if run.prior_key is not None and prior is None:
            # It was killed after it had published this retry. When its message comes back, after
            # the end of this attempt perhaps, nothing is left to do; RETRY must not be stored.
            self._leases.end_unheld(run.prior_key, run.delivery)
        return None

    def _outcome_of(self, lease: Lease, run: Run) -> Outcome:
        """The outcome of a message that finds this lease."""
        if lease.state is LeaseState.DONE:
            return Outcome.DUPLICATE
        if lease.state is LeaseState.REJECTED:
            return Outcome.REJECTED
        run.wait_s = self._left_s(lease)
        return Outcome.BUSY

    def _left_s(self, lease: Lease) -> float:
        """Until the lease has run out; a second message that waits for it comes at another time."""
        return max(1.0, lease.until - self._clock()) + random.uniform(0, 1)  # noqa: S311

    def _receive(self, run: Run) -> Outcome:
        assert run.envelope is not None  # noqa: S101 - else it has a problem
        kind = run.envelope.content_type
        if kind not in self._accept and (why := refusal(kind)):
            raise MalformedMessageError(why)
        try:
            message = to_message(run.envelope, run.record, run, self._accept, self._max_body)
            self.consumer.receive(message)
            self._empty_timer()
        except _UNREADABLE as error:
            if run.end is None and run.fence is None:
                # Nothing has run: Celery could not make a request of it.
                raise MalformedMessageError(
                    f"Celery could not read the message: {error!r}"
                ) from error
            raise
        # A message that nobody settled is not safe.
        return run.outcome or Outcome.BROKEN

    def _on_task_request(self, request: Any) -> None:
        """Take the lease and hand the request to the pool, as a stock worker hands it over."""
        run = run_of(request.message)
        if request.revoked():
            return
        # Refused before its task's lease is taken: Celery's tracer unpacks the third part right
        # before the task is called. (Of protocol 1, Celery makes it.)
        parts = request.message.payload
        embed = parts[2] if isinstance(parts, list) else None
        if embed and not isinstance(embed, dict):
            worker_state.task_ready(request)
            raise MalformedMessageError("the third part of its body, the canvas, is not an object")
        facts = run.facts
        if self._leases is not None and facts is not None and run.lease_key is not None:
            held: LeaseFence | Lease
            if run.ahead is not None:
                held, run.ahead = run.ahead, None
            else:
                held = self._leases.hold(
                    facts.task_id, run.lease_key, self._lookup.lease(run), run.delivery,
                    for_s=self._lease_s(run.deadline), worker=self.consumer.hostname,
                )  # fmt: skip
            if not isinstance(held, LeaseFence):
                worker_state.task_ready(request)
                run.outcome = self._outcome_of(held, run)
                return
            run.fence = request.request_dict[FENCE] = held
        log_started(run.record, request, facts.retries if facts else 0)
        with suppress(TaskRevokedError):  # between the look above and the start: it is settled
            request.execute_using_pool(self.pool)

    def _empty_timer(self) -> None:
        """Run the requests that are nearly due, and put the others off."""
        for delay_s, entry in self._timer.take():
            if 0 < delay_s <= _IN_PLACE_S:
                (self._batch.sleep if self._batch is not None else self._sleep)(delay_s)
            if delay_s <= _IN_PLACE_S:
                entry()
                continue
            for request in _waiting(entry.args[0]):
                run = run_of(request.message)
                worker_state.task_ready(request)
                sent = self._deferral.defer(run.record, delay_s, self._clock())
                run.outcome = Outcome.DEFERRED if sent else Outcome.POSTPONED
                run.wait_s = delay_s


def _takes_threads(run: Run) -> bool:
    return run.deadline is None or run.deadline.takes_threads


#: How many coroutine tasks go side by side where ``worker_concurrency`` does not say.
_COROUTINES = 100

_THREADS = frozenset({"threads", "celery.concurrency.thread:TaskPool"})


def concurrency(app: Celery) -> tuple[int, int]:
    """How many threads (0: none, as in Celery's ``solo``) and how many coroutine tasks at once."""
    conf: Any = app.conf
    wanted = int(conf.worker_concurrency or 0)
    if conf.worker_pool not in _THREADS:
        return 0, wanted or _COROUTINES
    return wanted or os.cpu_count() or 1, wanted or _COROUTINES  # as Celery


def _waiting(waiting: Any) -> list[Any]:
    """The requests behind a timer entry: an ETA's request, or all that a rate limit holds back."""
    if isinstance(waiting, Request):
        return [waiting]
    held = []
    while waiting.contents:
        request, _ = waiting.contents.popleft()
        held.append(request)
    return held
