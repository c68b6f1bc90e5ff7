"""A project's stack on real parts: the demonstration application's, killed and cut off."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twolane_local.errors import HandlerImportError
from twolane_local.testing.processes.live import Live

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[4]
NOTIFICATION = {"email": "ann@example.com", "message": "hello"}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning"),
]


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with Live(ROOT / "template.yaml", {}) as live:
        yield live


def test_a_request_is_deferred_and_done(live: Live) -> None:
    identity = live.client.post("/notify/deferred", json=NOTIFICATION).json()["id"]
    live.until(lambda: live.tasks[identity].done)
    assert live.tasks[identity].state == "SUCCESS"
    assert live.redis.keys(f"*celery-task-meta-{identity}")


def test_a_killed_environment_is_replaced(live: Live) -> None:
    assert live.signal("WorkerFunction") >= 1
    live.until(lambda: live.journal.find("environment.stopped"))
    identity = live.client.post("/notify/deferred", json=NOTIFICATION).json()["id"]
    live.until(lambda: live.tasks[identity].done)
    assert live.signal("no such function") == 0


def test_an_armed_fault_happens(live: Live) -> None:
    live.faults.inject("send.reply-lost", target="local-TaskQueue")
    identity = live.client.post("/notify/deferred", json=NOTIFICATION).json()["id"]
    live.until(lambda: live.tasks[identity].done)
    assert live.faults.fired("send.reply-lost") == 1


def test_what_never_happens_is_told_with_the_journal(live: Live) -> None:
    with pytest.raises(TimeoutError, match=r"not so after 0\.1 s:\n(.|\n)*POST /notify/deferred"):
        live.until(lambda: False, 0.1)


def test_the_invariants_hold(live: Live) -> None:
    live.watch.faults_ended()
    live.until(lambda: not len(live.emulator.queues.refreshed("local-TaskQueue")), 60)
    assert live.violations("local-TaskQueue", "local-TaskDeadLetterQueue") == []


def test_a_handler_that_does_not_import_is_said(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(
        "Resources:\n  Broken:\n    Type: AWS::Lambda::Function\n    Properties:\n"
        "      {Runtime: python3.13, Handler: index.handler, Code: {ZipFile: import nowhere}}\n"
    )
    with (
        pytest.raises(HandlerImportError, match=r"template\.yaml:2: Broken: .*'nowhere'"),
        Live(path, {}),
    ):
        raise AssertionError("it must not start")
