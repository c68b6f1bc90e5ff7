"""What each of the README's scenarios must come to, wherever the application runs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .conftest import until

if TYPE_CHECKING:
    from .conftest import Service

#: What the emulator's log and a stock worker's say of it.
DROPPED = re.compile(r"revoked app\.tasks\.send_notification|Discarding revoked task")


def inline(service: Service) -> None:
    answer = service.readme("inline")
    assert " 200" in answer.splitlines()[0]
    assert answer.splitlines()[-1] == '{"message":"Notification will be sent"}'


def deferred(service: Service) -> None:
    task = service.readme_task("deferred")
    assert task["state"] == "SUCCESS"
    assert task["name"] == "app.tasks.send_notification"
    assert task["result"] == {"email": "user@example.com", "outcome": "sent"}
    assert task["attempts"] == 1
    service.logged("Sending notification to user@example.com")


def campaign(service: Service) -> None:
    task = service.readme_task("campaign")
    assert task["state"] == "SUCCESS"
    assert task["name"] == "app.tasks.campaign_report"
    assert task["result"] == {"recipients": 200, "sent": 199, "refused": 1, "failed": 0}


def imported(service: Service) -> None:
    task = service.readme_task("import")
    assert task["state"] == "SUCCESS"
    result = task["result"]
    assert (result["rows"], result["accepted"], result["rejected"]) == (10_000, 9_990, 10)
    assert [error["line"] for error in result["errors"]] == list(range(9_992, 10_002))


def retried(service: Service) -> None:
    task = service.readme_task("retried")
    assert task["state"] == "SUCCESS"
    assert task["attempts"] == 2


def revoked(service: Service) -> None:
    assert service.readme_task("revoked")["state"] == "REVOKED"
    # The message itself is still on its way; the worker drops it once its delay is over.
    until(lambda: DROPPED.search(service.log_text()), "sign that the message was dropped")
    assert "Sending notification to late@example.com" not in service.log_text()


def exhausted(service: Service) -> None:
    # The block itself ends only once the message of this very task is on the queue.
    task = service.readme_task("dead-lettered")
    assert task["state"] == "FAILURE"
    assert task["attempts"] == 4
    assert "no answer at attempt 4" in str(task["error"])


#: Where no dead-letter queue is: a Celery worker on Redis.
STOCK = [inline, deferred, campaign, imported, retried, revoked]
ALL = [*STOCK, exhausted]
