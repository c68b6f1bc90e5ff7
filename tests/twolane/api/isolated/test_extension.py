"""The extension's thread against an Extensions API that does not always behave."""

from __future__ import annotations

import json
import queue
import threading
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from twolane.api.extension import Extension, ExtensionsApi, ExtensionsApiError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ....conftest import Serve  # noqa: TID252

INVOKE = {"eventType": "INVOKE", "requestId": "r-1", "deadlineMs": 1}


class Api:
    """Answers each GET with the next of ``answers``: a status and a body, or a cut connection."""

    def __init__(self) -> None:
        self.answers: queue.Queue[Any] = queue.Queue()
        self.asked: queue.Queue[str] = queue.Queue()
        self.register_status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                outer.asked.put(self.headers["Lambda-Extension-Name"])
                self.rfile.read(int(self.headers["Content-Length"]))
                self.reply(outer.register_status, {})

            def do_GET(self) -> None:
                outer.asked.put(self.headers["Lambda-Extension-Identifier"])
                answer = outer.answers.get()
                if answer is None:
                    self.close_connection = True
                else:
                    self.reply(*answer)

            def reply(self, status: int, body: Any) -> None:
                payload = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(status)
                self.send_header("Lambda-Extension-Identifier", "id-1")
                self.send_header("Content-Length", str(len(payload)))
                self.end_headers()
                self.wfile.write(payload)

            def log_message(self, *args: Any) -> None:
                """The tests say what they need."""

        self.handler = Handler
        self.address = ""


@pytest.fixture
def server(serve: Serve) -> Iterator[Api]:
    api = Api()
    with serve(api.handler) as api.address:
        yield api
        # The extension's thread ends when it is told so often enough that it is not wanted.
        for _ in range(8):
            api.answers.put((500, {"errorType": "Extension.Stopped"}))
        for other in threading.enumerate():
            if other.name == "twolane-extension":
                other.join(30)
                assert not other.is_alive()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("twolane.api.extension.RETRY_S", (0.0, 0.0, 0.0))


def _nothing() -> None:
    """In the place of the end of this process."""


def _finishing(done: queue.Queue[str], error: BaseException | None = None) -> Any:
    def finish(request_id: str, wait_s: float) -> None:
        done.put(request_id)
        if error is not None:
            raise error

    return finish


def test_it_registers_asks_and_finishes_what_it_is_told_of(server) -> None:
    done: queue.Queue[str] = queue.Queue()
    extension = Extension.start(server.address, _finishing(done), give_up=_nothing)
    assert extension is not None
    assert extension.alive
    assert server.asked.get(timeout=30) == "twolane"
    for _ in range(3):
        assert server.asked.get(timeout=30) == "id-1"
        server.answers.put((200, INVOKE))
        assert done.get(timeout=30) == "r-1"


@pytest.mark.parametrize("error", [RuntimeError("broken"), SystemExit(1), KeyboardInterrupt()])
def test_nothing_that_the_work_raises_keeps_it_from_asking_again(server, error, caplog) -> None:
    done: queue.Queue[str] = queue.Queue()
    Extension.start(server.address, _finishing(done, error), give_up=_nothing)
    for _ in range(2):
        server.answers.put((200, INVOKE))
        done.get(timeout=30)
    server.asked.get(timeout=30)
    for _ in range(3):
        assert server.asked.get(timeout=30) == "id-1"
    assert caplog.records[0].twolane["event"] == "inline.failed"


@pytest.mark.parametrize("answer", [None, (500, {}), (200, b"{")], ids=["cut", "500", "no JSON"])
def test_it_asks_again_after_an_error(server, answer) -> None:
    done: queue.Queue[str] = queue.Queue()
    extension = Extension.start(server.address, _finishing(done), give_up=_nothing)
    for _ in range(6):
        server.answers.put(answer)
        server.answers.put((200, INVOKE))
        assert done.get(timeout=30) == "r-1"
    assert extension is not None
    assert extension.alive


def test_when_it_cannot_go_on_it_ends_the_process(server, caplog) -> None:
    ended: list[bool] = []
    extension = Extension.start(
        server.address, _finishing(queue.Queue()), give_up=lambda: ended.append(True)
    )
    assert extension is not None
    for _ in range(4):
        server.answers.put((500, {"errorType": "Extension.Unknown"}))
    extension._thread.join(30)
    assert not extension.alive
    assert ended == [True]
    events = [record.twolane["event"] for record in caplog.records]
    assert events == [*["extension.failed"] * 4, "extension.lost"]


def test_an_event_of_another_kind_is_passed_over(server) -> None:
    done: queue.Queue[str] = queue.Queue()
    Extension.start(server.address, _finishing(done), give_up=_nothing)
    server.answers.put((200, {"eventType": "SHUTDOWN", "shutdownReason": "spindown"}))
    server.answers.put((200, {**INVOKE, "requestId": "r-2"}))
    assert done.get(timeout=30) == "r-2"


def test_a_refusal_says_what_to_do(server) -> None:
    server.register_status = 403
    api = ExtensionsApi(server.address)
    with pytest.raises(ExtensionsApiError, match=r"403.*create ApiHandler when the handler's"):
        api.register("twolane")
    api.close()
    assert Extension.start(server.address, _finishing(queue.Queue())) is None


def test_an_address_where_nobody_listens_is_a_refusal_too() -> None:
    assert Extension.start("127.0.0.1:1", _finishing(queue.Queue())) is None
