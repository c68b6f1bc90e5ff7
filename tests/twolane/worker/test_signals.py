from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import signals

from twolane import WorkerHandler

from .conftest import RecordedQueues, body, event, make_app, record

if TYPE_CHECKING:
    from collections.abc import Callable

    from twolane.state.memory import MemoryStore

AT_COLD_START = (
    "celeryd_init",
    "celeryd_after_setup",
    "worker_init",
    "worker_process_init",
    "worker_ready",
)
OF_A_TASK = (
    "task_received",
    "task_prerun",
    "task_success",
    "task_postrun",
    "task_failure",
    "task_retry",
    "task_revoked",
    "task_unknown",
    "task_rejected",
)


def listener(signal: str, heard: list[str]) -> Callable[..., None]:
    def hear(**_: Any) -> None:
        heard.append(signal)

    return hear


def test_an_application_hears_its_signals(queues: RecordedQueues, store: MemoryStore) -> None:
    heard: list[str] = []
    receivers: list[Any] = []
    for name in AT_COLD_START + OF_A_TASK:
        receivers.append(listener(name, heard))
        getattr(signals, name).connect(receivers[-1], weak=True)

    app = make_app()

    @app.task(shared=False, name="add")
    def add(x: int, y: int) -> int:
        return x + y

    @app.task(shared=False, name="fail")
    def fail() -> None:
        raise ValueError

    handler = WorkerHandler(app, queues=queues, store=store, environ={})
    assert heard == list(AT_COLD_START)
    heard.clear()
    handler(event(record(body("add", 1, 2, task_id="t1"))))
    assert heard == ["task_received", "task_prerun", "task_success", "task_postrun"]
    heard.clear()
    handler(event(record(body("fail", task_id="t2"))))
    assert heard == ["task_received", "task_prerun", "task_failure", "task_postrun"]
    heard.clear()
    handler(event(record(body("add", task_id="t3", expires="2020-01-01T00:00:00+00:00"))))
    handler(event(record(body("unknown", task_id="t4"))))
    assert heard == ["task_revoked", "task_unknown"]


def test_a_receiver_that_exits_before_the_task_harms_its_own_message_only(
    queues: RecordedQueues, store: MemoryStore
) -> None:
    ran: list[int] = []
    app = make_app()

    @app.task(shared=False, name="add")
    def add(x: int) -> None:
        ran.append(x)

    def exits(request: Any = None, **_: Any) -> None:
        if request.id == "leaves":
            raise SystemExit(3)

    handler = WorkerHandler(app, queues=queues, store=store, environ={})
    signals.task_received.connect(exits)
    answer = handler(
        event(
            record(body("add", 1, task_id="leaves"), "1"),
            record(body("add", 2, task_id="stays"), "2"),
        )
    )
    assert answer == {"batchItemFailures": [{"itemIdentifier": "1"}]}
    assert ran == [2]
