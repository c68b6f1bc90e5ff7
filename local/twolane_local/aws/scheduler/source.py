"""Fires the schedules of a book: sleeps until the next due time, delivers, and sleeps again."""

from __future__ import annotations

import asyncio
import heapq
import random
from dataclasses import replace
from typing import TYPE_CHECKING

from twolane_local.aws.scheduler.schedule import ScheduleBook, from_spec
from twolane_local.aws.scheduler.targets import (
    DeliveryError,
    Firing,
    Invocations,
    deliver,
    iso,
    send_to_dead_letter_queue,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from twolane_local.aws.scheduler.schedule import Key, Schedule
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.clock import Clock
    from twolane_local.journal import Journal
    from twolane_local.model import ScheduleSpec

#: Retries back off exponentially; AWS does not publish the figures.
_FIRST_RETRY_S, _LONGEST_RETRY_S = 1.0, 900.0


class ScheduleSource:
    """Runs every schedule of a book until it is cancelled.

    ``rng`` spreads flexible time windows and makes execution ids.
    """

    def __init__(
        self,
        specs: Iterable[ScheduleSpec],
        invocations: Invocations,
        queues: QueueService,
        clock: Clock,
        journal: Journal,
        *,
        book: ScheduleBook | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.book = ScheduleBook() if book is None else book
        self._queues, self._clock, self._journal = queues, clock, journal
        self._invocations = invocations
        self._rng = rng or random.Random()  # noqa: S311 - spread and ids, no secret
        self._due: list[tuple[float, int, Schedule]] = []
        self._known: dict[Key, Schedule] = {}
        self._turn = 0
        for spec in specs:
            schedule = from_spec(spec, now=clock.time())
            if schedule.source == "scheduler":
                self.book.groups.setdefault(schedule.group, clock.time())
            self.book.add(schedule)

    async def run(self) -> None:
        """Fire due schedules until cancelled, which also cancels deliveries under way."""
        async with asyncio.TaskGroup() as deliveries:
            while True:
                self.book.changed.clear()
                self._take_up()
                now = self._clock.time()
                while self._due and self._due[0][0] <= now:
                    at, _, schedule = heapq.heappop(self._due)
                    if schedule in self.book:
                        self._fire(schedule, at, now, deliveries)
                wait_s = self._due[0][0] - now if self._due else None
                await self._clock.wait(self.book.changed, wait_s)

    def _take_up(self) -> None:
        """Plan new and changed schedules; removed ones are skipped when they come up."""
        current = {schedule.key: schedule for schedule in self.book}
        for name, schedule in current.items():
            if self._known.get(name) is not schedule and schedule.enabled:
                after = self.book.fired(schedule)
                if after is None:
                    # A one-time schedule in the past fires at once. Unverified
                    # (`schedule-in-the-past`): AWS may refuse to create one; here a schedule that
                    # is created a second too late must not be lost.
                    after = schedule.modified - 1e-3 if schedule.expression.recurring else 0.0
                self._plan(schedule, after)
        self._known = current

    def _plan(self, schedule: Schedule, after: float) -> bool:
        due = schedule.after(after)
        if due is None:
            return False
        self._turn += 1
        heapq.heappush(self._due, (due, self._turn, schedule))
        return True

    def _fire(
        self, schedule: Schedule, at: float, now: float, deliveries: asyncio.TaskGroup
    ) -> None:
        missed = 0
        while (later := schedule.after(at)) is not None and later <= now:
            at, missed = later, missed + 1  # this machine slept: one invocation for all
        firing = Firing(schedule, at, f"{self._rng.getrandbits(64):016x}")
        self._journal.record(
            "schedule.fired",
            schedule=schedule.name, time=iso(at), target=schedule.target.arn, missed=missed,
        )  # fmt: skip
        self.book.note_fired(schedule, at)
        again = self._plan(schedule, at)
        deliveries.create_task(self._deliver(firing, last=not again))

    async def _deliver(self, firing: Firing, *, last: bool) -> None:
        schedule = firing.schedule
        await self._clock.sleep(self._rng.random() * schedule.window_s)
        if last and schedule.delete_when_complete and schedule in self.book:
            self.book.remove(schedule)
        begun = self._clock.time()
        while True:
            try:
                await deliver(firing, self._queues, self._invocations)
            except DeliveryError as error:
                wait_s = min(_FIRST_RETRY_S * 2 ** (firing.attempt - 1), _LONGEST_RETRY_S)
                condition = _exhausted(firing, self._clock.time() + wait_s - begun)
                # Here a target only fails because it does not exist, which rules do not retry.
                if condition is not None or schedule.source == "rule":
                    self._give_up(firing, error, condition)
                    return
                await self._clock.sleep(wait_s)
                firing = replace(firing, attempt=firing.attempt + 1)
            else:
                return

    def _give_up(self, firing: Firing, error: DeliveryError, condition: str | None) -> None:
        dead_lettered = send_to_dead_letter_queue(firing, self._queues, error, condition)
        self._journal.record(
            "message.dead_lettered" if dead_lettered else "log",
            schedule=firing.schedule.name, error=error.code, message=str(error),
            attempts=firing.attempt, dead_letter=firing.schedule.target.dead_letter_arn,
        )  # fmt: skip


def _exhausted(firing: Firing, age_s: float) -> str | None:
    target = firing.schedule.target
    if firing.attempt > target.retries:
        return "MaximumRetryAttempts"
    return "MaximumEventAgeInSeconds" if age_s > target.age_s else None
