"""From log records to the journal."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

from twolane.environment.logs import emit
from twolane_local.testing.narration import is_journaled
from twolane_local.testing.project import of_handlers

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane_local.testing.stack import Twolane

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
