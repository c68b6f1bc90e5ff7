"""The client's own part: what it sends, and what it makes of answers. Against the real control API
it is tried in tests/e2e/test_commands.py.
"""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.errors import LocalError
from twolane_local.remote.emulator import ControlClient, ControlError, Running

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ...conftest import Serve  # noqa: TID252


class Api:
    """Answers with what it is given, and keeps what it was asked."""

    def __init__(self) -> None:
        self.answer: tuple[int, bytes] = (200, b"{}")
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []
        self.connections = 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                api.connections += 1
                super().setup()

            def do_GET(self) -> None:
                length = int(self.headers.get("content-length", 0))
                headers = {name.lower(): value for name, value in self.headers.items()}
                api.asked.append((self.command, self.path, headers, self.rfile.read(length)))
                status, content = api.answer
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815 - the standard library's names

            def log_message(self, *args: Any) -> None:
                pass

        self.handler = Handler


@pytest.fixture
def api() -> Api:
    return Api()


@pytest.fixture
def control(api: Api, serve: Serve) -> Iterator[ControlClient]:
    """Closed in any case: its connection is kept alive."""
    with serve(api.handler) as address:
        running = Running(1, f"http://{address}", "geheim", "local", "/t", 0.0)
        control = ControlClient(running, timeout_s=5)
        yield control
        control.close()


def test_a_question_is_quoted_and_carries_no_token(api: Api, control: ControlClient) -> None:
    assert control.get("queues", "a/b ü", "messages", limit=5, after=None) == {}
    (method, path, headers, _) = api.asked[0]
    assert (method, path) == ("GET", "/api/queues/a%2Fb%20%C3%BC/messages?limit=5")
    assert "x-twolane-token" not in headers


def test_a_change_carries_the_token_and_json(api: Api, control: ControlClient) -> None:
    control.post("queues", "q", "purge", body={"a": 1})
    control.post("queues", "q", "purge")
    method, _, headers, body = api.asked[0]
    assert (method, json.loads(body)) == ("POST", {"a": 1})
    assert headers["x-twolane-token"] == "geheim"
    assert headers["content-type"] == "application/json"
    assert json.loads(api.asked[1][3]) == {}
    assert api.connections == 1


def test_no_proxy_stands_between(control: ControlClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert control.get("status") == {}


@pytest.mark.parametrize(
    ("status", "content", "words"),
    [
        (404, b'{"title": "Not Found", "detail": "there is no queue named q"}', "no queue named q"),
        (403, b'{"title": "Forbidden"}', "Forbidden"),
        (500, b"<html>", "without JSON"),
    ],
)
def test_a_refusal_is_said_in_its_own_words(
    api: Api, control: ControlClient, status: int, content: bytes, words: str
) -> None:
    api.answer = (status, content)
    with pytest.raises(ControlError, match=words) as caught:
        control.get("queues")
    assert caught.value.status == status


def test_an_emulator_that_went_away_is_said() -> None:
    control = ControlClient(Running(1, "http://127.0.0.1:9", "t", "local", "/t", 0.0), timeout_s=5)
    with pytest.raises(LocalError, match="is `twolane up` still running"):
        control.get("status")
