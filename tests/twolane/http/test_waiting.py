from __future__ import annotations

import time

import pytest

from twolane.environment.invocation import deadline
from twolane.http.changes import MAX_WAIT_S, RESERVE_S, changes, last_change, preferred_wait
from twolane.http.tasks import TaskStatus


class Time:
    """Waiting moves it, nothing else."""

    def __init__(self) -> None:
        self.now = 100.0

    async def sleep(self, seconds: float) -> None:
        self.now += seconds


class Task:
    """A task whose states are told in advance: (from when on, state)."""

    def __init__(self, time: Time, *states: tuple[float, str]) -> None:
        self.time, self.states, self.looks = time, states, 0

    async def look(self) -> TaskStatus:
        self.looks += 1
        state = [state for at, state in self.states if self.time.now - 100 >= at][-1]
        return TaskStatus(id="t", state=state)


async def seen(task: Task, seconds: float) -> list[str]:
    found = changes(task.look, seconds, sleep=task.time.sleep, monotonic=lambda: task.time.now)
    return [status.state async for status in found]


@pytest.mark.parametrize(
    ("prefer", "seconds"),
    [
        (None, None),
        ("respond-async", None),
        ("wait=5", 5),
        ("respond-async, wait=10", 10),
        ('WAIT = "3"; x=1', 3),
        ("wait=86400", MAX_WAIT_S),
        ("await=5", None),
        ("wait=-5", None),
        ("wait=soon", None),
    ],
)
def test_prefer_as_rfc_7240_has_it(prefer: str | None, seconds: float | None) -> None:
    assert preferred_wait(prefer) == seconds


@pytest.mark.asyncio
async def test_each_change_is_told_once_until_the_task_is_finished() -> None:
    task = Task(Time(), (0, "PENDING"), (1, "STARTED"), (4, "SUCCESS"))
    assert await seen(task, 60) == ["PENDING", "STARTED", "SUCCESS"]
    assert 4 <= task.time.now - 100 < 5.5
    assert task.looks < 15


@pytest.mark.asyncio
async def test_waiting_ends_in_time() -> None:
    task = Task(Time(), (0, "PENDING"))
    assert await seen(task, 7) == ["PENDING"]
    assert task.time.now == pytest.approx(107)


@pytest.mark.asyncio
async def test_no_time_at_all_is_one_look() -> None:
    task = Task(Time(), (0, "PENDING"))
    assert await seen(task, 0) == ["PENDING"]
    assert task.looks == 1


@pytest.mark.asyncio
async def test_an_invocation_keeps_time_for_its_answer() -> None:
    task = Task(Time(), (0, "PENDING"))
    token = deadline.set(103.0)
    try:
        await seen(task, 20)
    finally:
        deadline.reset(token)
    assert task.time.now == pytest.approx(103.0 - RESERVE_S)


@pytest.mark.asyncio
async def test_a_finished_task_is_not_looked_at_again() -> None:
    task = Task(Time(), (0, "SUCCESS"))
    done = TaskStatus(id="t", state="FAILURE")
    assert await last_change(done, task.look, 20) is done
    assert task.looks == 0


@pytest.mark.asyncio
async def test_the_last_change_is_what_a_client_waits_for() -> None:
    started = time.monotonic()
    real = Time()

    class Soon(Task):
        async def look(self) -> TaskStatus:
            real.now = 100 + time.monotonic() - started
            return await super().look()

    task = Soon(real, (0, "PENDING"), (0.05, "SUCCESS"))
    status = await last_change(TaskStatus(id="t", state="PENDING"), task.look, 20)
    assert status.state == "SUCCESS"
