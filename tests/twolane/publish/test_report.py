from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from celery import group

if TYPE_CHECKING:
    import pytest
    from celery import Celery


def events(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [record.twolane for record in caplog.records if hasattr(record, "twolane")]


def test_each_message_is_told_of_with_the_id_that_sqs_gave_it(
    app: Celery, queue: Any, caplog: pytest.LogCaptureFixture
) -> None:
    add = app.tasks["shop.add"]
    with caplog.at_level(logging.INFO, "twolane.publish"):
        single = add.apply_async((1, 2), countdown=0)
        pair = group(add.s(n, n) for n in range(2)).delay()
    told = events(caplog)
    assert [event["event"] for event in told] == ["task.published"] * 3
    assert [event["taskId"] for event in told] == [single.id, *(child.id for child in pair)]
    assert {event["taskName"] for event in told} == {"shop.add"}
    assert {event["queue"] for event in told} == {queue.url.rpartition("/")[2]}
    received = {message["MessageId"] for message in queue.take(3)}
    assert {event["messageId"] for event in told} == received


def test_arguments_and_credentials_are_not_told(
    app: Celery, queue: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG, "twolane"):
        app.tasks["shop.add"].delay("hunter2", 2)
    assert events(caplog)
    assert "hunter2" not in caplog.text + str(events(caplog))
    assert "AKIDEXAMPLE" not in caplog.text + str(events(caplog))
