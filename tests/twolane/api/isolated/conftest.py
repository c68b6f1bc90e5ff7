"""A Runtime API and an Extensions API to run the real ``awslambdaric`` against, in a child process.

Only what the two protocols are made of, with a note of when each step was taken. The clock is
CLOCK_MONOTONIC, which parent and child share.

- https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
- https://docs.aws.amazon.com/lambda/latest/dg/runtimes-extensions-api.html
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
import uuid
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from ....conftest import Serve  # noqa: TID252

WAIT_S = 30.0
ROOT = Path(__file__).parents[4]


@dataclass
class Invocation:
    """One invocation, and when what happened to it."""

    request_id: str
    event: dict[str, Any]
    deadline: float
    asked: float = 0.0
    posted: float = 0.0
    payload: bytes = b""
    failed: bool = False
    posts: int = 0
    answered: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    @property
    def response(self) -> dict[str, Any]:
        assert not self.failed, self.payload
        response: dict[str, Any] = json.loads(self.payload)
        return response


class Lambda:
    """The service's side of one execution environment."""

    def __init__(self) -> None:
        self.extensions = 0
        self.refuse_extensions = self.broken = False
        self.init_error: dict[str, Any] | None = None
        #: Called once before the body of a response is read to its end.
        self.while_posting: Callable[[], None] = lambda: None
        self._runtime: queue.Queue[Invocation] = queue.Queue()
        self._extension: queue.Queue[Invocation] = queue.Queue()
        self._running: Invocation | None = None
        self._asking = {"runtime": threading.Event(), "extension": threading.Event()}
        outer = self

        class Handler(_Handler):
            service = outer

        self.handler = Handler
        self.address = ""

    def send(self, event: dict[str, Any], *, timeout_s: float = 30.0) -> Invocation:
        """Hand an event to the runtime and to the extension, once both have asked for one."""
        self.wait_idle()
        for asking in self._asking.values():
            asking.clear()
        invocation = Invocation(str(uuid.uuid4()), event, time.time() + timeout_s)
        invocation.asked = time.monotonic()
        self._running = invocation
        self._runtime.put(invocation)
        if self.extensions:
            self._extension.put(invocation)
        return invocation

    def invoke(self, event: dict[str, Any], *, timeout_s: float = 30.0) -> Invocation:
        """An invocation up to its response."""
        invocation = self.send(event, timeout_s=timeout_s)
        assert invocation.answered.wait(WAIT_S), "the runtime has posted nothing"
        return invocation

    def wait_idle(self) -> None:
        """Until Lambda would freeze the environment: everyone has asked for the next event."""
        assert self._asking["runtime"].wait(WAIT_S), "the runtime has not asked for an event"
        if self.extensions:
            assert self._asking["extension"].wait(WAIT_S), "the extension has not asked"

    def next(self, who: str) -> Invocation:
        if self._running is not None and self._running.answered.is_set():
            others = "extension" if who == "runtime" else "runtime"
            if self._asking[others].is_set() or not self.extensions:
                self._running.ended.set()
        self._asking[who].set()
        return (self._runtime if who == "runtime" else self._extension).get()

    def break_extension(self) -> None:
        """The Extensions API refuses every further ``next``, the one that waits first."""
        self.broken = True
        self._extension.put(Invocation("", {}, 0.0))

    @property
    def running(self) -> Invocation:
        assert self._running is not None
        return self._running


class _Handler(BaseHTTPRequestHandler):
    service: Lambda
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        extension = self.path == "/2020-01-01/extension/event/next"
        if extension and self.service.broken:
            self._answer(403, {"errorType": "Extension.UnknownExtensionIdentifier"}, {})
            return
        invocation = self.service.next("extension" if extension else "runtime")
        if extension and self.service.broken:
            self._answer(500, {}, {})
            return
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
            "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
            "Lambda-Runtime-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1",
            "Lambda-Runtime-Invoked-Function-Arn": "arn:aws:lambda:us-east-1:123456789012:function",
        }
        if extension:
            body = {
                "eventType": "INVOKE",
                "requestId": invocation.request_id,
                "deadlineMs": int(invocation.deadline * 1000),
            }
            self._answer(200, body, {})
        else:
            self._answer(200, invocation.event, headers)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        *_, what = self.path.split("/")
        if what == "register":
            body = json.loads(self.rfile.read(length))
            assert body == {"events": ["INVOKE"]}, "an internal extension gets INVOKE only"
            if self.service.refuse_extensions:
                self._answer(403, {"errorType": "Extension.RegistrationClosed"}, {})
                return
            self.service.extensions += 1
            self._answer(200, {}, {"Lambda-Extension-Identifier": str(uuid.uuid4())})
        elif "init" in self.path:
            self.service.init_error = json.loads(self.rfile.read(length))
            self._answer(202, {"status": "OK"}, {})
        else:
            self._take(length, failed=what == "error")

    def _take(self, length: int, *, failed: bool) -> None:
        first = self.rfile.read(min(length, 1024))
        hook, self.service.while_posting = self.service.while_posting, lambda: None
        hook()
        invocation = self.service.running
        invocation.payload = first + self.rfile.read(length - len(first))
        invocation.failed = failed
        invocation.posted = time.monotonic()
        invocation.posts += 1
        self._answer(202, {"status": "OK"}, {})
        invocation.answered.set()

    def _answer(self, status: int, body: Any, headers: dict[str, str]) -> None:
        payload = json.dumps(body).encode()
        self.send_response(status)
        # The native half of awslambdaric crashes on an event without a content type.
        common = {"Content-Type": "application/json", "Content-Length": str(len(payload))}
        for key, value in {**common, **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args: Any) -> None:
        """The tests say what they need."""


class Environment:
    """A child process with ``awslambdaric``, and the lines that it writes."""

    def __init__(self, service: Lambda, source: str, folder: Path, **environ: str) -> None:
        (folder / "served.py").write_text(source)
        self.lines: list[dict[str, Any]] = []
        self._grew = threading.Condition()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "awslambdaric", environ.pop("HANDLER", "served.handler")],
            cwd=folder,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{ROOT / 'handlers'}:{folder}",
                "AWS_EXECUTION_ENV": "AWS_Lambda_python3.13",
                "AWS_LAMBDA_FUNCTION_NAME": "Api",
                "AWS_LAMBDA_RUNTIME_API": service.address,
                **environ,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for raw in self.process.stdout:
            try:
                line = json.loads(raw)
            except ValueError:
                line = {"text": raw.decode()}
            with self._grew:
                self.lines.append(line)
                self._grew.notify_all()

    def line(self, event: str, **fields: Any) -> dict[str, Any]:
        """The first line of that event with those fields, awaited."""
        lines = self.await_line(event, **fields)
        assert lines, f"no {event} {fields} in {self.lines}"
        return lines[0]

    def await_line(
        self, event: str, *, timeout_s: float = WAIT_S, count: int = 1, **fields: Any
    ) -> list[dict[str, Any]]:
        """All lines of that event with those fields, once there are ``count`` or the time is up."""
        wanted = {"event": event, **fields}.items()

        def found() -> list[dict[str, Any]]:
            return [line for line in self.lines if wanted <= _flat(line)]

        with self._grew:
            self._grew.wait_for(lambda: len(found()) >= count, timeout_s)
            return found()

    def events(self) -> list[str]:
        return [line["event"] for line in self.lines if "event" in line]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


def _flat(line: dict[str, Any]) -> Any:
    return {k: v for k, v in line.items() if isinstance(v, (str, int, float))}.items()


@pytest.fixture
def service(serve: Serve) -> Iterator[Lambda]:
    service = Lambda()
    with serve(service.handler) as service.address:
        yield service


@pytest.fixture
def environment(service: Lambda, tmp_path: Path) -> Iterator[Callable[..., Environment]]:
    """``environment(source, **environ)``: an execution environment with that handler module."""
    started: list[Environment] = []

    def start(source: str, **environ: str) -> Environment:
        started.append(Environment(service, source, tmp_path, **environ))
        return started[-1]

    yield start
    for one in started:
        one.close()


@pytest.fixture
def get() -> Callable[..., dict[str, Any]]:
    """``get(path, query="")``: an HTTP API event."""

    def get(path: str, query: str = "") -> dict[str, Any]:
        http = {"method": "GET", "path": path, "sourceIp": "203.0.113.7", "protocol": "HTTP/1.1"}
        return {
            "version": "2.0",
            "rawPath": path,
            "rawQueryString": query,
            "headers": {"host": "id.execute-api.us-east-1.amazonaws.com"},
            "requestContext": {"http": http, "stage": "$default"},
            "isBase64Encoded": False,
        }

    return get
