"""One execution environment of a test."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI

from twolane import ApiHandler
from twolane.environment.logs import emit
from twolane_local.clock import SystemClock
from twolane_local.clock.threads import current
from twolane_local.clock.virtual import NEW_YEAR
from twolane_local.journal import Journal
from twolane_local.testing.project import of_handlers
from twolane_local.testing.virtual_environment import is_journaled, narrated

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.testing.stack import Twolane


@pytest.fixture
def invoke(make: Callable[..., Twolane]) -> Callable[..., Any]:
    """Invokes a handler as a function with a timeout of ten seconds."""

    def invoke(handler: Any, event: Any = None) -> tuple[Any, Twolane]:
        stack = make(of_handlers(api=handler, timeout_s=10))
        invocation = stack.invoke("Api", json.dumps(event).encode())
        return (invocation.error, json.loads(invocation.payload)), stack

    return invoke


def test_a_result(invoke: Any) -> None:
    outcome, stack = invoke(lambda event, context: [event, context.function_name], {"a": 1})
    assert outcome == (None, [{"a": 1}, "Api"])
    assert stack.journal.kinds == [
        "environment.started", "invocation.started", "invocation.responded", "invocation.ended",
    ]  # fmt: skip


def test_the_remaining_time_is_virtual(invoke: Any) -> None:
    def handler(event: Any, context: Any) -> list[int]:
        before = context.get_remaining_time_in_millis()
        time.sleep(4)
        return [before, context.get_remaining_time_in_millis()]

    assert invoke(handler)[0] == (None, [10_000, 6_000])


def test_an_error_has_its_type_and_trace(invoke: Any) -> None:
    def handler(event: Any, context: Any) -> None:
        raise LookupError("not there")

    (error, payload), _ = invoke(handler)
    assert (error, payload["errorType"], payload["errorMessage"]) == (
        "Unhandled", "LookupError", "not there",
    )  # fmt: skip
    assert "in handler" in payload["stackTrace"][-1]


def test_a_result_that_is_no_json(invoke: Any) -> None:
    assert invoke(lambda event, context: object())[0][1]["errorType"] == "Runtime.MarshalError"


def test_a_timeout_kills(invoke: Any) -> None:
    unwound = []

    def handler(event: Any, context: Any) -> None:
        try:
            time.sleep(60)
        except Exception:  # noqa: BLE001 - what a handler may try
            unwound.append("caught")

    (error, payload), stack = invoke(handler)
    assert (error, payload["errorType"]) == ("Unhandled", "Sandbox.Timedout")
    assert unwound == []
    assert stack.clock.time == NEW_YEAR + 10
    assert stack.environments("Api") == []
    assert stack.invoke("Api", b"null").error == "Unhandled"  # in a new one


def test_exit_ends_the_environment(invoke: Any) -> None:
    def handler(event: Any, context: Any) -> None:
        raise SystemExit(1)

    assert invoke(handler)[0][1]["errorType"] == "Runtime.ExitError"


def test_a_kill_from_within(invoke: Any) -> None:
    def handler(event: Any, context: Any) -> None:
        process = current.get()
        assert process is not None
        process.die()

    (error, payload), stack = invoke(handler)
    assert (error, payload["errorType"]) == ("Unhandled", "Runtime.ExitError")
    assert stack.journal.find("environment.stopped")


def test_a_timeout_of_an_endpoint_on_a_worker_thread(make: Callable[..., Twolane]) -> None:
    app = FastAPI()
    ended: list[str] = []

    @app.get("/slow")
    def slow() -> None:
        time.sleep(50)
        ended.append("slow")

    @app.get("/quick")
    def quick() -> str:
        return "there"

    stack = make(of_handlers(api=ApiHandler(app), timeout_s=10))
    assert stack.client.get("/slow").status_code == 500
    assert stack.clock.time == NEW_YEAR + 10
    assert stack.client.get("/quick").json() == "there"
    assert ended == []


def test_a_kill_from_outside(make: Callable[..., Twolane]) -> None:
    stack = make(of_handlers(api=lambda event, context: time.sleep(5), timeout_s=10))
    stack.world.loop.call_later(2, stack.environments("Api")[0].kill)
    assert json.loads(stack.invoke("Api", b"null").payload)["errorType"] == "Runtime.ExitError"
    assert stack.clock.time == NEW_YEAR + 2


# From log records to the journal.

runtime = logging.getLogger("twolane.some")
own = logging.getLogger("shop")


def test_events_of_the_runtime_and_lines_of_handlers(make: Callable[..., Twolane]) -> None:
    def handler(event: Any, context: Any) -> None:
        emit(runtime, "task.started", "→ it starts", taskId="t1", taskName="shop.greet")
        own.warning("careful with %s", "this")
        own.debug("nobody sees that")

    stack = make(of_handlers(api=handler))
    request = (
        json.loads(stack.invoke("Api", b"{}").payload)
        or stack.journal.find("invocation.started")[0].request_id
    )
    own.warning("from the test")
    found = [(e.kind, e.function, e.task_id, e.data["message"]) for e in stack.journal.find("task")]
    assert found == [("task.started", "Api", "t1", "→ it starts")]
    lines = [event for event in stack.journal.find("log") if event.data.get("logger") == "shop"]
    assert [(line.data["message"], line.function, line.request_id) for line in lines] == [
        ("careful with this", "Api", request)
    ]


def test_an_event_of_the_test_s_own(stack: Twolane) -> None:
    emit(runtime, "task.published", "published", taskId="t2", queue="tasks")
    event = stack.journal.find("task.published")[0]
    assert (event.task_id, event.queue, event.function) == ("t2", "tasks", None)


def test_levels_are_put_back(make: Callable[..., Twolane]) -> None:
    before = logging.getLogger("twolane").level
    handlers = list(logging.getLogger().handlers)
    make().close()
    assert logging.getLogger("twolane").level == before
    assert logging.getLogger().handlers == handlers


def test_which_lines_the_journal_has_too() -> None:
    record = logging.makeLogRecord({"twolane": {"event": "task.started"}})
    assert is_journaled(record)
    assert not is_journaled(logging.makeLogRecord({}))


def test_a_thread_of_an_earlier_stack_does_not_write_into_the_journal() -> None:
    journal = Journal(SystemClock())
    logger = logging.getLogger("twolane.api")

    def late() -> None:
        emit(logger, "inline.lost", "left over", level=logging.ERROR)

    with narrated(journal, quiet=True):
        late()
        other = threading.Thread(target=late)
        other.start()
        other.join()
    assert [event.kind for event in journal] == ["inline.lost"]
