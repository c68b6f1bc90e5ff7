from __future__ import annotations

import io
import json
from typing import Any

import pytest

from twolane_local.cli import exits, send
from twolane_local.cli.flags import UnconfirmedError
from twolane_local.cli.parser import parser


class Source:
    where = "stack shop (1, eu)"

    def __init__(self, *, real: bool) -> None:
        self.real = real
        self.done: list[Any] = []

    def send(self, name: str, **more: Any) -> Any:
        self.done.append((name, more))
        return {"taskId": "t-1", "messageId": "m-1", "queue": "tasks"}


def run(monkeypatch: pytest.MonkeyPatch, source: Source, *arguments: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr(send, "source_for", lambda options: source)
    return send.run(parser().parse_args(["send", *arguments]))


def test_a_task_is_sent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source(real=False)
    assert run(monkeypatch, source, "mail", "--args", "[1]", "--countdown", "3") == 0
    assert source.done == [
        ("mail", {"args": [1], "kwargs": {}, "countdown": 3.0, "queue": None}),
    ]  # fmt: skip
    assert capsys.readouterr().out == "mail is on tasks as task t-1\n"
    run(monkeypatch, source, "mail", "--json")
    assert json.loads(capsys.readouterr().out)["taskId"] == "t-1"


def test_a_stack_is_only_read_without_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(real=True)
    with pytest.raises(UnconfirmedError, match="stack shop"):
        run(monkeypatch, source, "mail")
    assert source.done == []
    assert run(monkeypatch, source, "mail", "--yes") == exits.DONE
