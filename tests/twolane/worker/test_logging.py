"""Celery's signals about logging, as a stock worker sends them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery import signals
from celery.utils.log import get_task_logger

from twolane import WorkerHandler

from .conftest import Context, RecordedQueues, body, event, make_app, record

if TYPE_CHECKING:
    import pytest

    from twolane.state.memory import MemoryStore


def test_an_application_sets_up_logging_itself(queues: RecordedQueues, store: MemoryStore) -> None:
    told: list[dict[str, Any]] = []
    after: list[str] = []

    def set_up(**given: Any) -> None:
        told.append(given)

    def set_up_after(**_: Any) -> None:
        after.append("after")

    signals.setup_logging.connect(set_up)
    signals.after_setup_logger.connect(set_up_after)
    try:
        WorkerHandler(make_app(), queues=queues, store=store)
    finally:
        signals.setup_logging.disconnect(set_up)
        signals.after_setup_logger.disconnect(set_up_after)
    (given,) = told
    assert {"loglevel", "logfile", "format", "colorize"} <= set(given)
    assert isinstance(given["loglevel"], int)
    assert after == [], "whoever sets it up gets no logger of Celery's"


def test_an_application_adds_to_the_loggers(queues: RecordedQueues, store: MemoryStore) -> None:
    loggers: list[logging.Logger] = []

    def add(logger: logging.Logger, **_: Any) -> None:
        loggers.append(logger)

    before = logging.getLogger().handlers[:]
    signals.after_setup_logger.connect(add)
    signals.after_setup_task_logger.connect(add)
    try:
        WorkerHandler(make_app(), queues=queues, store=store)
    finally:
        signals.after_setup_logger.disconnect(add)
        signals.after_setup_task_logger.disconnect(add)
    assert [logger.name for logger in loggers] == ["root", "celery.task"]
    assert logging.getLogger().handlers == before, "nothing is hijacked"


def test_a_tasks_own_logger_reaches_the_root(
    queues: RecordedQueues, store: MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    app = make_app()
    log = get_task_logger("shop.tasks")

    @app.task(name="shop.say")
    def say() -> None:
        log.warning("said")

    handler = WorkerHandler(app, queues=queues, store=store)
    handler(event(record(body("shop.say", task_id="t-1"))), Context())
    assert [each.name for each in caplog.records if each.getMessage() == "said"] == ["shop.tasks"]
