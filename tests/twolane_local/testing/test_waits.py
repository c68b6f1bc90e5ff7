"""Every way in which a handler may wait."""

from __future__ import annotations

import asyncio
import time
import types
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from twolane import WorkerHandler
from twolane_local.clock.threads import Process
from twolane_local.clock.virtual import NEW_YEAR
from twolane_local.testing import waits
from twolane_local.testing.project import of_handlers
from twolane_local.testing.world import World

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from celery import Celery

    from twolane_local.testing.stack import Twolane

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


@pytest.fixture
def run() -> Iterator[Callable[[Callable[[], Any]], Any]]:
    """Runs a function as a handler would be."""
    world = World()

    async def on_a_process(work: Callable[[], Any]) -> Any:
        process = Process(world.loop)
        try:
            return await process.run(work)
        finally:
            process.close()

    with waits.virtual_waits():
        yield lambda work: world.run(on_a_process(work))
    world.close()


def since() -> float:
    return time.time() - NEW_YEAR


def test_time_sleep(run: Any) -> None:
    def work() -> float:
        time.sleep(86_400)
        return since()

    assert run(work) == 86_400


def test_asyncio_sleep_in_a_loop_of_the_handler(run: Any) -> None:
    async def main() -> float:
        async with asyncio.timeout(1000):
            await asyncio.sleep(500)
        return since()

    assert run(lambda: asyncio.run(main())) == 500


def test_a_timeout_in_a_loop_of_the_handler(run: Any) -> None:
    async def main() -> float:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 30)
        return since()

    assert run(lambda: asyncio.run(main())) == 30


@pytest.mark.parametrize("how", ["anyio", "asyncio"])
def test_a_sleep_on_a_worker_thread(run: Any, how: str) -> None:
    def blocks() -> float:
        time.sleep(60)
        return since()

    async def main() -> tuple[float, float]:
        called = anyio.to_thread.run_sync if how == "anyio" else asyncio.to_thread
        return await called(blocks), since()

    assert run(lambda: asyncio.run(main())) == (60, 60)


def test_threads_and_timers_at_once(run: Any) -> None:
    said: list[tuple[str, float]] = []

    def blocks(name: str, seconds: float) -> None:
        time.sleep(seconds)
        said.append((name, since()))

    async def sleeps(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        said.append((name, since()))

    async def main() -> None:
        await asyncio.gather(
            sleeps("task 20", 20),
            anyio.to_thread.run_sync(blocks, "thread 30", 30),
            anyio.to_thread.run_sync(blocks, "thread 10", 10),
            sleeps("task 40", 40),
        )

    run(lambda: asyncio.run(main()))
    assert said == [("thread 10", 10), ("task 20", 20), ("thread 30", 30), ("task 40", 40)]


def test_a_socket_that_speaks_is_heard_before_a_timeout(run: Any) -> None:
    async def main() -> bytes:
        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"hello")
            writer.close()

        server = await asyncio.start_server(greet, "127.0.0.1", 0)
        async with server, asyncio.timeout(5):
            port = server.sockets[0].getsockname()[1]
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            said = await reader.read()
            writer.close()
            await writer.wait_closed()
            return said

    assert run(lambda: asyncio.run(main())) == b"hello"


def test_other_threads_wait_as_ever(run: Any) -> None:
    began = time.monotonic()
    time.sleep(0.01)
    assert time.monotonic() - began >= 0.01


def test_names_of_their_own() -> None:
    module: Any = types.ModuleType("sleepy")
    module.nap = waits.real_sleep
    with waits.own_sleeps([module]):
        assert module.nap is waits.sleep
    assert module.nap is waits.real_sleep


# The worker's own waits.


@pytest.fixture
def stack(make: Callable[..., Twolane], application: Any) -> Twolane:
    return make(of_handlers(worker=application.worker, timeout_s=100))


def slow(celery: Celery, **options: Any) -> str:
    return str(celery.send_task("small.slow", (50,), **options).id)


def test_a_soft_time_limit_interrupts_a_sleep(stack: Twolane, application: Any) -> None:
    identity = slow(application.celery, soft_time_limit=20)
    stack.deferred.run()
    assert stack.clock.time == NEW_YEAR + 20
    assert "SoftTimeLimitExceeded" in str(application.celery.AsyncResult(identity).result)


def test_a_hard_time_limit_interrupts_a_sleep(stack: Twolane, application: Any) -> None:
    identity = slow(application.celery, time_limit=30)
    stack.deferred.run()
    assert stack.clock.time == NEW_YEAR + 30
    assert stack.tasks[identity].state == "FAILURE"


def test_tasks_that_no_time_is_left_for_go_back(stack: Twolane, application: Any) -> None:
    for _ in range(3):
        slow(application.celery)
    stack.deferred.run_until_idle()
    times = [at - NEW_YEAR for name, at in application.calls if name == "slow begins"]
    # The first batch has no time left for the third task, which comes at once in another one.
    assert times[0] == 0
    assert sum(name == "slow ends" for name, _ in application.calls) >= 2
    assert all(task.done for task in stack.tasks)


def test_revoking_terminates_a_task_that_sleeps(
    stack: Twolane, application: Any, make: Callable[..., Twolane]
) -> None:
    identity = slow(application.celery)
    stack.world.loop.call_later(
        10, lambda: application.celery.control.revoke(identity, terminate=True)
    )
    stack.deferred.run()
    assert stack.tasks[identity].state == "REVOKED"
    assert 10 <= stack.clock.time - NEW_YEAR <= 12


def test_handlers_keep_a_real_sleep_elsewhere(application: Any) -> None:
    assert isinstance(application.worker, WorkerHandler)
    assert application.worker._worker._sleep(0) is None
