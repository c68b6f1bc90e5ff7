"""Celery applications as people write them: classes, names, serialisers, routes, configuration."""

from __future__ import annotations

import functools
import json
import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery, Task, current_app, current_task
from celery.exceptions import QueueNotFound
from kombu import Exchange, Queue
from kombu.serialization import register, unregister

from twolane import WorkerHandler

from .conftest import ACCOUNT, Lane, create_queue, to_event

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def calls() -> list[str]:
    return []


@pytest.fixture
def recording(calls: list[str]) -> type[Any]:
    """A task's base class that records each hook."""

    class Recording(Task):  # type: ignore[type-arg]
        abstract = True

        def before_start(self, *_: Any) -> None:
            calls.append(f"before_start {self.app.main}")

        def on_success(self, *_: Any) -> None:
            calls.append("on_success")

        def on_failure(self, exc: Exception, *_: Any, **__: Any) -> None:
            calls.append(f"on_failure {exc!r}")

        def on_retry(self, exc: Exception, *_: Any, **__: Any) -> None:
            calls.append(f"on_retry {exc!r}")

        def after_return(self, status: str, *_: Any) -> None:
            calls.append(f"after_return {status}")

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            calls.append("__call__")
            return super().__call__(*args, **kwargs)

    return Recording


@pytest.mark.parametrize("where", ["base", "task_cls"])
def test_the_hooks_of_a_class_of_ones_own(
    app: Celery, lane: Callable[..., Lane], calls: list[str], recording: type[Any], where: str
) -> None:
    options: dict[str, Any] = {"base": recording} if where == "base" else {}
    if where == "task_cls":
        app.task_cls = recording  # type: ignore[attr-defined]

    @app.task(shared=False, name="good", **options)
    def good() -> int:
        calls.append("run")
        return 1

    @app.task(shared=False, name="bad", **options)
    def bad() -> None:
        raise ValueError("no")

    @app.task(shared=False, name="again", bind=True, max_retries=1, **options)
    def again(self: Any) -> None:
        if self.request.retries == 0:
            raise self.retry(exc=KeyError("k"), countdown=0)

    worker = lane()
    for task, expected in (
        (good, ["before_start semantics", "__call__", "run", "on_success", "after_return SUCCESS"]),
        (bad, ["before_start semantics", "__call__", "on_failure ValueError('no')",
               "after_return FAILURE"]),
        (again, ["before_start semantics", "__call__", "on_retry KeyError('k')",
                 "before_start semantics", "__call__", "on_success", "after_return SUCCESS"]),
    ):  # fmt: skip
        calls.clear()
        task.delay()
        worker.run(2)
        assert calls == expected


@pytest.mark.parametrize("mode", ["solo", "threads"], indirect=True)
def test_decorators_around_a_task(app: Celery, lane: Callable[..., Lane], calls: list[str]) -> None:
    def logged(name: str) -> Callable[..., Any]:
        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(function)
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                calls.append(name)
                return function(*args, **kwargs)

            return wrapper

        return decorate

    @logged("above")  # a plain function around the task, as under any worker
    @app.task(shared=False, name="decorated")
    @logged("below")
    def decorated(x: int) -> int:
        return x

    worker = lane()
    result = app.tasks["decorated"].delay(3)
    worker.drain()
    assert (result.result, calls) == (3, ["below"])
    assert decorated(4) == 4
    assert calls == ["below", "above", "below"]


def test_names_types_and_annotations(aws: str, redis_url: str, clock: Any, sqs: Any) -> None:
    class Named(Celery):
        def gen_task_name(self, name: str, module: str) -> str:
            return f"shop.{module.rpartition('.')[2]}.{name}"

    app = Named("named", set_as_current=False)
    app.conf.update(
        **settings(aws, redis_url),
        task_annotations=[{"*": {"max_retries": 7}}, {"shop.test_applications.strict": {"x": 1}}],
    )  # fmt: skip

    @app.task(shared=False, typing=False)
    def loose(x: int) -> int:
        return x

    @app.task(shared=False)
    def strict(x: int) -> int:
        return x

    worker = start(app, sqs, clock)
    assert sorted(name for name in app.tasks if name.startswith("shop.")) == [
        "shop.test_applications.loose", "shop.test_applications.strict"
    ]  # fmt: skip
    assert loose.max_retries == strict.max_retries == 7
    with pytest.raises(TypeError):
        strict.delay()
    wrong = app.send_task("shop.test_applications.strict")
    right = strict.delay(2)
    worker.drain()
    assert (wrong.state, right.result) == ("FAILURE", 2)
    app.close()


@pytest.fixture
def orjson_like() -> Iterator[None]:
    """A JSON of one's own, which gives bytes as orjson does."""
    register(
        "fast-json", lambda value: json.dumps(value).encode(), json.loads,
        content_type="application/x-fast-json", content_encoding="utf-8",
    )  # fmt: skip
    yield
    unregister("fast-json")


def test_a_serializer_of_ones_own(
    app: Celery, lane: Callable[..., Lane], orjson_like: None
) -> None:
    app.conf.update(
        task_serializer="fast-json", result_serializer="fast-json", accept_content=["fast-json"]
    )

    @app.task(shared=False, name="double", bind=True, max_retries=1)
    def double(self: Any, text: str) -> str:
        if self.request.retries == 0:
            raise self.retry(countdown=1)
        return text * 2

    worker = lane()
    result = double.delay("ä")
    chained = (double.s("b") | double.s()).delay()
    worker.run(4)
    assert (result.result, chained.result) == ("ää", "bbbb")
    assert worker.is_empty


@pytest.mark.parametrize("serializer", ["pickle", "yaml", "msgpack"])
def test_what_is_not_json_is_refused_with_the_setting_to_change(
    app: Celery, lane: Callable[..., Lane], serializer: str, caplog: pytest.LogCaptureFixture
) -> None:
    if serializer == "msgpack":
        pytest.importorskip("msgpack")

    @app.task(shared=False, name="add", serializer=serializer)
    def add(x: int) -> int:
        return x

    app.conf.accept_content = ["json", serializer]
    worker = lane()
    result = add.delay(1)
    worker.run(30)
    assert len(worker.dead_letters()) == 1
    assert worker.is_empty
    assert result.state == "PENDING"
    assert f"its body is {serializer} (" in caplog.text
    assert "task_serializer='json'" in caplog.text
    assert f"{serializer} in accept_content" in caplog.text


def test_a_content_type_that_is_not_accepted_names_the_setting(
    app: Celery, lane: Callable[..., Lane], orjson_like: None, caplog: pytest.LogCaptureFixture
) -> None:
    @app.task(shared=False, name="add", serializer="fast-json")
    def add(x: int) -> int:
        return x

    worker = lane()
    add.delay(1)
    worker.run(30)
    assert len(worker.dead_letters()) == 1
    assert "accept_content does not have that" in caplog.text


def settings(aws: str, results: str, *queues: str, **names: str) -> dict[str, Any]:
    """``names``: Celery's names of queues that SQS knows by another one."""
    urls = {queue: queue for queue in queues or ("tasks",)} | names
    return {
        "broker_url": "sqs://",
        "broker_transport_options": {
            "region": "us-east-1",
            "predefined_queues": {
                name: {"url": f"{aws}/{ACCOUNT}/{queue}"} for name, queue in urls.items()
            },
            "sqs_base64_encoding": False,
        },
        "task_default_queue": next(iter(urls)),
        "result_backend": results,
    }


def start(app: Celery, sqs: Any, clock: Any, queue: str = "tasks") -> Lane:
    return Lane(app, sqs, clock, *create_queue(sqs, queue), WorkerHandler(app))


def by_function(name: str, args: Any, kwargs: Any, options: Any, task: Any = None, **_: Any) -> Any:
    return {"queue": "slow"} if name == "routed" else None


@pytest.mark.parametrize(
    "routes",
    [
        {"routed": {"queue": "slow"}},
        {"rou*": {"queue": "slow"}},
        [[(re.compile(r"^r.*d$"), {"queue": "slow"})]],
        [{"other": {"queue": "tasks"}}, by_function],
        {"routed": {"exchange": "topics", "routing_key": "shop.slow.1"}},
    ],
)
def test_routes_to_queues_that_sqs_knows_by_another_name(
    aws: str, redis_url: str, clock: Any, sqs: Any, routes: Any
) -> None:
    app = Celery("routed", set_as_current=False)
    app.conf.update(**settings(aws, redis_url, "tasks", slow="production-slow-jobs"))
    topics = Exchange("topics", type="topic")
    app.conf.task_queues = [Queue("tasks"), Queue("slow", topics, routing_key="shop.slow.#")]
    app.conf.task_create_missing_queues = False
    app.conf.task_routes = routes

    @app.task(shared=False, name="routed", bind=True, max_retries=1)
    def routed(self: Any) -> str:
        if self.request.retries == 0:
            raise self.retry(countdown=0)
        return str(self.request.delivery_info["routing_key"])

    worker = start(app, sqs, clock, "production-slow-jobs")
    result = routed.delay()
    worker.drain()
    assert result.state == "SUCCESS", worker.counts()
    with pytest.raises(QueueNotFound):
        routed.apply_async(queue="missing")
    app.close()


def test_several_applications_in_one_process(
    aws: str, redis_url: str, clock: Any, sqs: Any
) -> None:
    seen: list[tuple[str, str, str]] = []
    apps = [
        Celery(name, set_as_current=False, changes=settings(aws, redis_url, f"{name}-tasks"))
        for name in ("one", "two")
    ]
    one, two = apps

    def note(where: str) -> None:
        seen.append((where, current_app.main, current_task.app.main))

    @one.task(shared=False, name="ask")
    def ask() -> str:
        note("ask")
        return str(two.send_task("answer", (1,)).id)

    @two.task(shared=False, name="answer", bind=True, max_retries=1)
    def answer(self: Any, x: int) -> int:
        note("answer")
        if self.request.retries == 0:
            raise self.retry(countdown=0)
        one.send_task("ask.again")
        return x + 1

    @one.task(shared=False, name="ask.again")
    def ask_again() -> None:
        note("ask.again")

    first, second = (start(app, sqs, clock, f"{app.main}-tasks") for app in apps)
    asked = ask.delay()
    for _ in range(3):
        first.drain()
        second.drain()
    assert seen == [
        ("ask", "one", "one"), ("answer", "two", "two"), ("answer", "two", "two"),
        ("ask.again", "one", "one"),
    ]  # fmt: skip
    assert two.AsyncResult(asked.result).result == 2
    for app in apps:
        app.close()


def test_one_application_behind_two_handlers(app: Celery, lane: Callable[..., Lane]) -> None:
    """As where each of two queues has a function, and one process plays both."""

    @app.task(shared=False, name="add")
    def add(x: int) -> int:
        return x + 1

    worker = lane()
    other = WorkerHandler(app)
    results = [add.delay(number) for number in range(2)]
    for handler in (worker.handler, other):
        (message,) = worker.sqs.receive_message(
            QueueUrl=worker.url, MaxNumberOfMessages=1, AttributeNames=["All"]
        )["Messages"]
        assert handler(to_event([message], worker.arn)) == {"batchItemFailures": []}
    assert sorted(result.result for result in results) == [1, 2]


def test_an_application_that_is_configured_after_its_handler_was_made(
    aws: str, redis_url: str, clock: Any, sqs: Any, caplog: pytest.LogCaptureFixture
) -> None:
    app = Celery("late", set_as_current=False)

    @app.task(shared=False, name="add", bind=True, max_retries=1)
    def add(self: Any, x: int) -> int:
        if self.request.retries == 0:
            raise self.retry(countdown=1)
        return x + 1

    with caplog.at_level(logging.CRITICAL):  # it says at its start that there is no broker
        worker = start(app, sqs, clock)
    app.conf.update(**settings(aws, redis_url), accept_content=["json"], task_track_started=True)
    result = add.delay(1)
    worker.run(3)
    assert result.result == 2
    import redis

    with redis.Redis.from_url(redis_url) as client:
        assert client.keys("twolane:lease:*"), "leases are in the store that was named later"
    app.close()
