"""``async def`` tasks: side by side on one loop, each with its own request, context and limits."""

from __future__ import annotations

import asyncio
import functools
import logging
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, Task, current_task, signals
from celery.app import trace
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from twolane import WorkerHandler
from twolane.environment.logs import correlation
from twolane.errors import StoreUnavailableError
from twolane.state.memory import MemoryStore
from twolane.worker.lookup import Revocation, revoked_key, write_revocation

from .conftest import Context, RecordedQueues, body, event, make_app, record

if TYPE_CHECKING:
    from collections.abc import Callable


class NotNow(Exception):  # noqa: N818
    """What a task is tried again for."""


@pytest.fixture
def app() -> Celery:
    return make_app()


@pytest.fixture
def handler(app: Celery, queues: RecordedQueues, store: MemoryStore) -> WorkerHandler:
    return WorkerHandler(app, queues=queues, store=store, environ={})


def ids(prefix: str, count: int) -> list[str]:
    return [f"{prefix}{number}" for number in range(count)]


def failed(answer: dict[str, Any]) -> list[str]:
    return [one["itemIdentifier"] for one in answer["batchItemFailures"]]


def state(app: Celery, task_id: str) -> tuple[str, Any]:
    result = app.AsyncResult(task_id)
    return result.state, result.result


def test_ten_that_wait_take_as_long_as_one(app: Celery, handler: WorkerHandler) -> None:
    @app.task(shared=False, name="wait")
    async def wait(number: int) -> int:
        await asyncio.sleep(0.3)
        return number * 2

    names = ids("t", 10)
    texts = [body("wait", number, task_id=name) for number, name in enumerate(names)]
    began = time.monotonic()
    assert handler(event(*map(record, texts)), Context()) == {"batchItemFailures": []}
    assert time.monotonic() - began < 1.0
    assert [state(app, name) for name in names] == [("SUCCESS", number * 2) for number in range(10)]


def test_a_bound_task_has_its_own_request_at_every_await(
    app: Celery, handler: WorkerHandler
) -> None:
    seen: dict[str, list[tuple[str, str, int]]] = {}

    @app.task(shared=False, name="look", bind=True)
    async def look(self: Any) -> None:
        mine = self.request.id
        for turn in range(5):
            await asyncio.sleep(0.01 * (turn + int(mine[1:])) / 3)
            seen.setdefault(mine, []).append(
                (self.request.id, current_task.request.id, current_task.request.retries)
            )

    names = ids("t", 4)
    handler(event(*(record(body("look", task_id=name, retries=1)) for name in names)), Context())
    assert seen == {name: [(name, name, 1)] * 5 for name in names}
    assert app.current_task is None


def test_context_variables_are_each_tasks_own(app: Celery, handler: WorkerHandler) -> None:
    mine: ContextVar[str] = ContextVar("mine", default="nobody's")
    seen: list[tuple[str, str, str]] = []

    @app.task(shared=False, name="set")
    async def set_(name: str) -> None:
        before = mine.get()
        mine.set(name)
        await asyncio.sleep(0.02)
        inside = await asyncio.create_task(read())
        seen.append((before, mine.get(), inside))

    async def read() -> str:
        return mine.get()

    handler(event(*(record(body("set", name, task_id=name)) for name in ids("t", 3))), Context())
    assert sorted(seen) == [("nobody's", name, name) for name in ids("t", 3)]
    assert mine.get() == "nobody's"


def test_what_is_made_on_the_loop_is_there_in_the_next_invocation(
    app: Celery, handler: WorkerHandler
) -> None:
    loops: list[asyncio.AbstractEventLoop] = []
    kept: dict[str, Any] = {}

    @app.task(shared=False, name="use")
    async def use() -> str:
        loops.append(asyncio.get_running_loop())
        if "lock" not in kept:
            kept["lock"] = asyncio.Lock()
            kept["beside"] = asyncio.create_task(count())
        async with kept["lock"]:
            await asyncio.sleep(0.01)
        return "used"

    async def count() -> None:
        while True:
            kept["count"] = kept.get("count", 0) + 1
            await asyncio.sleep(0.001)

    for name in ("t1", "t2"):
        handler(event(record(body("use", task_id=name))), Context())
        assert state(app, name) == ("SUCCESS", "used")
        counted = kept["count"]
        assert counted > 1
        time.sleep(0.02)
        assert kept["count"] == counted  # nothing runs between two invocations
    assert loops[0] is loops[1]
    kept["beside"].cancel()


def test_it_fails_retries_ignores_and_rejects_as_any_other(
    app: Celery, handler: WorkerHandler, queues: RecordedQueues
) -> None:
    sent: list[tuple[Any, ...]] = []

    @app.task(shared=False, name="fail")
    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError("no")

    @app.task(shared=False, name="again", bind=True, max_retries=3)
    async def again(self: Any) -> None:
        await asyncio.sleep(0)
        raise self.retry(exc=NotNow("later"), countdown=60)

    @app.task(
        shared=False, name="auto", autoretry_for=(NotNow,), dont_autoretry_for=(KeyError,),
        retry_backoff=7, retry_jitter=False,
    )  # fmt: skip
    async def auto(kind: str) -> None:
        await asyncio.sleep(0)
        raise KeyError(kind) if kind == "not" else NotNow(kind)

    @app.task(shared=False, name="ignore", bind=True)
    async def ignore(self: Any) -> None:
        self.update_state(state="HALF", meta={"done": 1})
        await asyncio.sleep(0)
        raise Ignore

    @app.task(shared=False, name="reject", acks_late=True)
    async def reject(requeue: bool) -> None:
        await asyncio.sleep(0)
        raise Reject("no", requeue=requeue)

    app.amqp.send_task_message = lambda *a, **_: sent.append(a)  # type: ignore[assignment, attr-defined]
    answer = handler(
        event(
            record(body("fail", task_id="f"), "m-f"),
            record(body("again", task_id="a"), "m-a"),
            record(body("auto", "now", task_id="r", retries=1), "m-r"),
            record(body("auto", "not", task_id="n"), "m-n"),
            record(body("ignore", task_id="i"), "m-i"),
            record(body("reject", True, task_id="q"), "m-q"),
            record(body("reject", False, task_id="d"), "m-d"),
        ),
        Context(),
    )
    assert sorted(failed(answer)) == ["m-d", "m-q"]
    assert state(app, "f")[0] == "FAILURE"
    assert [state(app, name)[0] for name in "arni"] == ["RETRY", "RETRY", "FAILURE", "HALF"]
    assert isinstance(state(app, "n")[1], KeyError)
    assert isinstance(state(app, "a")[1], NotNow)
    assert len(sent) == 2
    assert "in fail" in str(app.AsyncResult("f").traceback)


def test_every_shape_of_a_coroutine_task_runs(app: Celery, handler: WorkerHandler) -> None:
    called: list[str] = []

    class Async(Task):
        name = "class"

        async def run(self, x: int) -> int:
            await asyncio.sleep(0)
            return x + 1

    class AsyncCall(Task):
        async def __call__(self, *args: Any, **kwargs: Any) -> Any:
            called.append("before")
            value = await self.run(*args, **kwargs)
            called.append("after")
            return value

    class Call(Task):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            called.append("sync")
            return super().__call__(*args, **kwargs)

    def wrapped(fun: Any) -> Any:
        @functools.wraps(fun)
        def inner(*args: Any) -> Any:
            called.append("wrapped")
            return fun(*args)

        return inner

    async def add(x: int, y: int) -> int:
        await asyncio.sleep(0)
        return x + y

    class Part(Task):
        name = "partial"
        run = staticmethod(functools.partial(add, 10))

    app.register_task(Async())
    app.register_task(Part())
    app.task(shared=False, name="call", base=AsyncCall)(add)
    app.task(shared=False, name="super", base=Call)(add)
    app.task(shared=False, name="wrapped")(wrapped(add))

    @app.task(shared=False, name="own-loop")
    def own_loop() -> int:
        return asyncio.run(add(3, 4))

    answer = handler(
        event(
            record(body("class", 1, task_id="c")),
            record(body("call", 1, 2, task_id="a")),
            record(body("super", 1, 3, task_id="s")),
            record(body("wrapped", 1, 4, task_id="w")),
            record(body("partial", 1, task_id="p")),
            record(body("own-loop", task_id="o")),
        ),
        Context(),
    )
    assert answer == {"batchItemFailures": []}
    found = [state(app, name) for name in "caswpo"]
    assert found == [("SUCCESS", value) for value in (2, 3, 4, 5, 11, 7)]
    assert sorted(called) == ["after", "before", "sync", "wrapped"]


def test_an_async_generator_is_refused_by_name(app: Celery, handler: WorkerHandler) -> None:
    @app.task(shared=False, name="stream")
    async def stream() -> Any:
        yield 1

    assert handler(event(record(body("stream", task_id="g"))), Context()) == {
        "batchItemFailures": []
    }
    how, error = state(app, "g")
    assert how == "FAILURE"
    assert "stream is an async generator" in str(error)


def test_signals_come_once_with_the_task_at_hand(
    app: Celery, handler: WorkerHandler, request: pytest.FixtureRequest
) -> None:
    heard: list[tuple[str, str]] = []

    @app.task(shared=False, name="wait")
    async def wait() -> None:
        await asyncio.sleep(0.01)

    def listener(name: str) -> Callable[..., None]:
        return lambda sender=None, **_: heard.append((name, sender.request.id))

    for name in ("task_prerun", "task_postrun", "task_success"):
        hears = listener(name)
        getattr(signals, name).connect(hears, weak=False)
        request.addfinalizer(functools.partial(getattr(signals, name).disconnect, hears))
    handler(event(*(record(body("wait", task_id=name)) for name in ("t0", "t1"))), Context())
    assert sorted(heard) == sorted(
        (name, task) for name in ("task_prerun", "task_postrun", "task_success")
        for task in ("t0", "t1")
    )  # fmt: skip


def test_limits_strike_at_the_next_await(app: Celery, handler: WorkerHandler) -> None:
    heard: list[str] = []

    @app.task(shared=False, name="tidy")
    async def tidy() -> str:
        try:
            await asyncio.sleep(30)
        except SoftTimeLimitExceeded:
            await asyncio.sleep(0.01)
            return "tidied"
        return "never"

    @app.task(shared=False, name="hard")
    async def hard() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    @app.task(shared=False, name="nested")
    async def nested() -> None:
        async with asyncio.timeout(20):
            await asyncio.gather(asyncio.sleep(30), asyncio.sleep(25))

    began = time.monotonic()
    answer = handler(
        event(
            record(body("tidy", task_id="s", timelimit=[None, 0.05])),
            record(body("hard", task_id="h", timelimit=[0.05, None])),
            record(body("nested", task_id="n", timelimit=[None, 0.05])),
        ),
        Context(),
    )
    assert time.monotonic() - began < 5
    assert answer == {"batchItemFailures": []}
    assert state(app, "s") == ("SUCCESS", "tidied")
    assert state(app, "h")[0] == "FAILURE"
    assert type(state(app, "h")[1]).__name__ == "TimeLimitExceeded"
    assert type(state(app, "n")[1]).__name__ == "SoftTimeLimitExceeded"
    assert heard == ["cancelled"]


@pytest.mark.parametrize("limit", [[0.3, None], [None, 0.3]])
def test_one_that_blocks_the_loop_is_named_and_interrupted(
    app: Celery, handler: WorkerHandler, caplog: pytest.LogCaptureFixture, limit: list[Any]
) -> None:
    @app.task(shared=False, name="block")
    async def block() -> None:
        while True:
            time.sleep(0.02)

    @app.task(shared=False, name="other")
    async def other() -> str:
        await asyncio.sleep(0.01)
        return "done"

    with caplog.at_level(logging.WARNING):
        handler(
            event(
                record(body("block", task_id="b", timelimit=limit)),
                record(body("other", task_id="o")),
            ),
            Context(),
        )
    assert state(app, "o") == ("SUCCESS", "done")
    assert type(state(app, "b")[1]).__name__ == (
        "TimeLimitExceeded" if limit[0] else "SoftTimeLimitExceeded"
    )
    told = [one.twolane for one in caplog.records if hasattr(one, "twolane")]  # type: ignore[attr-defined]
    blocked = [one for one in told if one["event"] == "task.blocked-loop"]
    assert [one["taskName"] for one in blocked] == ["block"]
    assert 290 < blocked[0]["durationMs"] < 3000


def test_the_deadline_returns_what_has_not_started_and_stops_the_rest(
    app: Celery, handler: WorkerHandler
) -> None:
    app.conf.worker_concurrency = 2

    @app.task(shared=False, name="wait")
    async def wait() -> None:
        await asyncio.sleep(30)

    handler = WorkerHandler(app, queues=RecordedQueues(), environ={}, store=MemoryStore())
    began = time.monotonic()
    answer = handler(
        event(*(record(body("wait", task_id=f"t{n}"), f"m{n}") for n in range(3))), Context(2500)
    )
    assert time.monotonic() - began < 2.5
    assert failed(answer) == ["m2"]
    assert [type(state(app, f"t{n}")[1]).__name__ for n in range(2)] == [
        "SoftTimeLimitExceeded"
    ] * 2


def test_one_that_cannot_be_stopped_is_named_and_comes_back(
    app: Celery, handler: WorkerHandler, queues: RecordedQueues, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(shared=False, name="stubborn")
    async def stubborn() -> None:
        for _ in range(300):
            with suppress(BaseException):
                await asyncio.sleep(0.1)

    @app.task(shared=False, name="quick")
    async def quick() -> str:
        return "quick"

    began = time.monotonic()
    with caplog.at_level(logging.WARNING):
        answer = handler(
            event(record(body("stubborn", task_id="s"), "m-s"), record(body("quick", task_id="q"))),
            Context(2500),
        )
    assert time.monotonic() - began < 2.5
    assert failed(answer) == ["m-s"]
    assert queues.visibility["m-s/1"] >= 1
    told = [one.twolane["event"] for one in caplog.records if hasattr(one, "twolane")]  # type: ignore[attr-defined]
    assert "task.left-behind" in told
    # The environment goes on.
    assert handler(event(record(body("quick", task_id="q2"))), Context()) == {
        "batchItemFailures": []
    }
    assert state(app, "q2") == ("SUCCESS", "quick")


def test_a_task_that_ends_itself_ends_nothing_else(app: Celery, handler: WorkerHandler) -> None:
    @app.task(shared=False, name="exit")
    async def exit_() -> None:
        await asyncio.sleep(0)
        raise SystemExit(3)

    @app.task(shared=False, name="cancel")
    async def cancel() -> None:
        raise asyncio.CancelledError

    @app.task(shared=False, name="quick")
    async def quick() -> str:
        await asyncio.sleep(0.01)
        return "quick"

    answer = handler(
        event(
            record(body("exit", task_id="e")),
            record(body("cancel", task_id="c")),
            record(body("quick", task_id="q")),
        ),
        Context(),
    )
    assert answer == {"batchItemFailures": []}
    assert type(state(app, "e")[1]).__name__ == "WorkerLostError"
    assert type(state(app, "c")[1]).__name__ == "CancelledError"
    assert state(app, "q") == ("SUCCESS", "quick")


def test_worker_concurrency_is_how_many_at_once(app: Celery, queues: RecordedQueues) -> None:
    app.conf.worker_concurrency = 3
    running, most = 0, 0

    @app.task(shared=False, name="wait")
    async def wait() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.02)
        running -= 1

    handler = WorkerHandler(app, queues=queues, environ={}, store=MemoryStore())
    handler(event(*(record(body("wait", task_id=name)) for name in ids("t", 10))), Context())
    assert most == 3


def test_a_fifo_group_keeps_its_order(app: Celery, queues: RecordedQueues) -> None:
    log: list[str] = []

    @app.task(shared=False, name="step")
    async def step(name: str) -> None:
        log.append(f"{name} begins")
        await asyncio.sleep(0.02)
        log.append(f"{name} ends")
        if name == "a2":
            raise Reject(requeue=True)

    step.acks_late = True
    handler = WorkerHandler(app, queues=queues, environ={}, store=MemoryStore())
    arn = "arn:aws:sqs:us-east-1:123456789012:tasks.fifo"
    answer = handler(
        event(
            *(
                record(body("step", name, task_id=name), name, arn=arn, MessageGroupId=name[0])
                for name in ("a1", "a2", "b1", "a3", "b2")
            )
        ),
        Context(),
    )
    assert [line for line in log if line[0] == "a"] == [
        "a1 begins", "a1 ends", "a2 begins", "a2 ends",
    ]  # fmt: skip
    assert log.index("b1 begins") < log.index("a1 ends")
    assert failed(answer) == ["a2", "a3"]


def test_a_copy_in_the_same_batch_is_a_duplicate(app: Celery, handler: WorkerHandler) -> None:
    ran: list[str] = []

    @app.task(shared=False, name="once")
    async def once() -> None:
        await asyncio.sleep(0.02)
        ran.append("once")

    text = body("once", task_id="t")
    assert handler(event(record(text), record(text)), Context()) == {"batchItemFailures": []}
    assert ran == ["once"]


def test_a_running_one_is_revoked(app: Celery, handler: WorkerHandler, store: MemoryStore) -> None:
    heard: list[str] = []

    @app.task(shared=False, name="long")
    async def long() -> None:
        try:
            await asyncio.sleep(30)
        except asyncio.CancelledError:
            heard.append("cancelled")
            raise

    revoked = write_revocation(Revocation(terminate=True))
    threading.Timer(0.3, lambda: store.put(revoked_key("t"), revoked, ttl_s=60)).start()
    began = time.monotonic()
    assert handler(event(record(body("long", task_id="t"))), Context()) == {"batchItemFailures": []}
    assert time.monotonic() - began < 10
    assert state(app, "t")[0] == "REVOKED"
    assert heard == ["cancelled"]


def test_the_log_of_each_names_its_task(app: Celery, handler: WorkerHandler) -> None:
    seen: list[tuple[str, str]] = []

    @app.task(shared=False, name="log")
    async def log(name: str) -> None:
        await asyncio.sleep(0.01)
        seen.append((name, (correlation.get() or {})["taskId"]))

    handler(event(*(record(body("log", name, task_id=name)) for name in ids("t", 3))), Context())
    assert sorted(seen) == [(name, name) for name in ids("t", 3)]


async def call_in_a_loop(handler: WorkerHandler, text: str) -> dict[str, Any]:
    return handler(event(record(text)), Context())


def test_a_handler_that_is_called_in_a_loop(app: Celery, handler: WorkerHandler) -> None:
    @app.task(shared=False, name="quick")
    async def quick() -> str:
        await asyncio.sleep(0.01)
        return "quick"

    asyncio.run(call_in_a_loop(handler, body("quick", task_id="q")))
    assert state(app, "q") == ("SUCCESS", "quick")


def test_a_monitor_that_replaces_celerys_tracer_sees_the_error(
    app: Celery, handler: WorkerHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Sentry's integration does it."""
    stock, seen = trace.build_tracer, []

    def build_tracer(name: str, task: Any, *args: Any, **options: Any) -> Any:
        run = task.run

        def watched(*args: Any, **kwargs: Any) -> Any:
            try:
                return run(*args, **kwargs)
            except Exception as error:
                seen.append(repr(error))
                raise

        task.run = watched
        return stock(name, task, *args, **options)

    monkeypatch.setattr(trace, "build_tracer", build_tracer)

    @app.task(shared=False, name="maybe")
    async def maybe(fails: bool) -> str:
        await asyncio.sleep(0.2)
        if fails:
            raise ValueError("seen")
        return "fine"

    began = time.monotonic()
    records = [record(body("maybe", number == 1, task_id=f"t{number}")) for number in range(5)]
    handler(event(*records), Context())
    assert time.monotonic() - began < 0.9
    assert seen == ["ValueError('seen')"]
    assert [state(app, f"t{number}")[0] for number in (0, 1)] == ["SUCCESS", "FAILURE"]


def test_a_limit_strikes_once_though_what_follows_blocks(
    app: Celery, handler: WorkerHandler
) -> None:
    heard: list[str] = []

    @app.task(shared=False, name="tidy")
    async def tidy(blocks: bool) -> str:
        try:
            if blocks:
                until = time.monotonic() + 20
                while time.monotonic() < until:
                    time.sleep(0.01)
            await asyncio.sleep(20)
        except SoftTimeLimitExceeded:
            heard.append("soft")
            until = time.monotonic() + 0.5
            while time.monotonic() < until:
                time.sleep(0.01)
            await asyncio.sleep(0.05)
        return "tidied"

    for name, blocks in (("t0", False), ("t1", True)):
        text = body("tidy", blocks, task_id=name, timelimit=[None, 0.2])
        handler(event(record(text)), Context())
        assert state(app, name) == ("SUCCESS", "tidied")
    assert heard == ["soft", "soft"]


def test_a_store_that_goes_down_within_a_batch_brings_back_the_rest(
    app: Celery, queues: RecordedQueues
) -> None:
    app.conf.worker_concurrency = 1
    store = MemoryStore()
    handler = WorkerHandler(app, queues=queues, environ={}, store=store)

    @app.task(shared=False, name="wait")
    async def wait() -> None:
        await asyncio.sleep(1.1)  # the answer of the look-up is old by then
        store.get_many = down  # type: ignore[method-assign]

    def down(keys: Any) -> dict[str, str]:
        raise StoreUnavailableError("it is down")

    answer = handler(
        event(*(record(body("wait", task_id=f"t{n}"), f"m{n}") for n in range(3))), Context()
    )
    assert failed(answer) == ["m1", "m2"]
