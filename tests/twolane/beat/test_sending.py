from __future__ import annotations

import hashlib
import json
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from celery.beat import BeatLazyFunc
from celery.schedules import crontab

from twolane.errors import PublishError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...conftest import RunPython, Serve  # noqa: TID252

SLOT = "2026-01-01T07:00:00Z"
ENTRY: dict[str, Any] = {"task": "shop.report", "schedule": crontab(hour=7, minute=0)}


def sent(bench: Any, late_s: float = 0, suffix: str = "", **entry: Any) -> Any:
    """The one message of a tick at 07:00."""
    app = bench.app({"digest": {**ENTRY, **entry}})
    bench.tick(bench.handler(app), SLOT, late_s=late_s)
    [message] = bench.messages(app, suffix)
    return message


def test_the_message_is_celerys(bench: Any) -> None:
    message = sent(bench, args=(1,), kwargs={"a": "ü"})
    assert message.payload[:2] == [[1], {"a": "ü"}]
    assert message.headers["task"] == "shop.report"
    assert message.headers["celery_beat_task"] is True
    assert message.headers["twolane_entry"] == "digest"
    assert message.headers["twolane_slot"] == SLOT
    assert message.headers["eta"] is None


def test_options_are_passed_on(bench: Any) -> None:
    app = bench.app()
    slow = f"{app.conf.task_default_queue}-slow"
    app.conf.beat_schedule = {"e": {**ENTRY, "options": {"queue": slow, "priority": 7}}}
    bench.tick(bench.handler(app), SLOT)
    [message] = bench.messages(app, "-slow")
    assert message.properties["priority"] == 7


def test_headers_of_ones_own_stay_and_the_entry_is_not_changed(bench: Any) -> None:
    options = {"headers": {"tenant": "x"}}
    message = sent(bench, options=options)
    assert message.headers["tenant"] == "x"
    assert options == {"headers": {"tenant": "x"}}


def test_countdown_and_expiry_of_a_slot_that_is_due_count_from_now(bench: Any) -> None:
    from datetime import datetime

    message = sent(bench, options={"countdown": 60, "expires": 3600})
    eta, expires = (datetime.fromisoformat(message.headers[key]) for key in ("eta", "expires"))
    assert (expires - eta).total_seconds() == pytest.approx(3540, abs=1)


def test_countdown_and_expiry_of_a_slot_to_come_count_from_the_slot(bench: Any) -> None:
    app = bench.app(
        {"often": {**ENTRY, "schedule": 50.0, "options": {"countdown": 5, "expires": 30}}}
    )
    bench.tick(bench.handler(app), SLOT)
    first = bench.messages(app)[0]
    assert first.headers["twolane_slot"] == "2026-01-01T07:00:50Z"
    assert first.headers["eta"] == "2026-01-01T07:00:55+00:00"
    assert first.headers["expires"] == "2026-01-01T07:01:20+00:00"


def test_lazy_arguments_are_evaluated_at_each_tick(bench: Any) -> None:
    message = sent(bench, args=(BeatLazyFunc(lambda: 6 * 7),), kwargs={"a": BeatLazyFunc(str, 5)})
    assert message.payload[:2] == [[42], {"a": "5"}]


def test_a_task_that_no_module_has_is_sent_by_name(bench: Any) -> None:
    assert sent(bench, task="elsewhere.task").headers["task"] == "elsewhere.task"


def test_an_argument_that_is_no_json_fails_alone(bench: Any) -> None:
    app = bench.app({"bad": {**ENTRY, "args": (object(),)}, "good": ENTRY})
    beat = bench.handler(app)
    with pytest.raises(PublishError, match=r"1 of 2 .*\(bad\)"):
        bench.tick(beat, SLOT)
    assert [message.headers["twolane_entry"] for message in bench.messages(app)] == ["good"]


class OneRefusal(BaseHTTPRequestHandler):
    """SQS that takes batches, and refuses the first time what is for ``entry-7``."""

    batches: ClassVar[list[list[str]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        taken: dict[str, list[Any]] = {"Successful": [], "Failed": []}
        names = [
            json.loads(entry["MessageBody"])["headers"]["twolane_entry"]
            for entry in body["Entries"]
        ]
        for name, entry in zip(names, body["Entries"], strict=True):
            if name == "entry-7" and not self.batches:
                taken["Failed"].append(
                    {
                        "Id": entry["Id"],
                        "Code": "InvalidMessageContents",
                        "SenderFault": True,
                        "Message": "refused",
                    }
                )
            else:
                digest = hashlib.md5(entry["MessageBody"].encode()).hexdigest()
                taken["Successful"].append(
                    {"Id": entry["Id"], "MessageId": "m", "MD5OfMessageBody": digest}
                )
        self.batches.append(names)
        answer = json.dumps(taken).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.send_header("Content-Type", "application/x-amz-json-1.0")
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def one_refusal(serve: Serve) -> Iterator[str]:
    with serve(OneRefusal) as address:
        yield address


def test_on_sqs_ten_go_in_one_request_and_what_is_refused_is_kept(
    bench: Any, one_refusal: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OneRefusal, "batches", [])
    url = f"http://{one_refusal}"
    for name, value in {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    app = bench.app({f"entry-{number}": ENTRY for number in range(10)})
    app.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {
                app.conf.task_default_queue: {"url": f"{url}/123456789012/tasks"}
            },
            "sqs_base64_encoding": False,
        },
    )
    with pytest.raises(PublishError, match=r"1 of 10 .*\(entry-7\)"):
        bench.tick(bench.handler(app), SLOT)
    again = bench.tick(bench.handler(app), SLOT, late_s=60)
    assert again == [("entry-7", SLOT)]
    assert [len(batch) for batch in OneRefusal.batches] == [10, 1]


def test_the_modules_of_an_application_are_imported_at_the_start(
    bench: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by ``celery beat``: the queue is the task's own, and a module may add to the schedule."""
    (tmp_path / "beat_late_tasks.py").write_text(
        "from celery import shared_task\n"
        "@shared_task(name='late.task', ignore_result=True)\n"
        "def task(): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    app = bench.app({"late": {**ENTRY, "task": "late.task"}}, imports=["beat_late_tasks"])
    bench.tick(bench.handler(app), SLOT)
    late = bench.messages(app)[-1]
    assert late.headers["ignore_result"] is True


def test_a_cold_beat_function_imports_nothing_that_it_does_not_need(run_python: RunPython) -> None:
    """FastAPI, botocore, the state store's client and the broker's: not before a task is due."""
    code = """
import sys
from celery import Celery
from twolane import BeatHandler
app = Celery("cold", broker="sqs://", backend="redis://127.0.0.1:1")
app.conf.beat_schedule = {"e": {"task": "t", "schedule": 60.0}}
handler = BeatHandler(app)
handler.entries()
heavy = ("fastapi", "starlette", "pydantic", "mangum", "boto3", "botocore", "redis",
         "celery.beat", "kombu.transport.SQS", "http.server")
print(*[name for name in heavy if name in sys.modules])
"""
    assert run_python(code).strip() == ""
