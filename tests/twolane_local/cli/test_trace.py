from __future__ import annotations

import json
from typing import Any

import pytest

from twolane_local.cli import exits, trace
from twolane_local.cli.parser import parser
from twolane_local.errors import LocalError

SPAN = {"id": "a", "parent": None, "kind": "task", "title": "send", "start": 100.0, "end": None,
        "state": "running", "marks": [], "detail": {}}  # fmt: skip


class Source:
    where = "the emulator"

    def __init__(self, found: Any) -> None:
        self.found = found

    def trace(self, identifier: str) -> Any:
        return self.found

    def why(self, identifier: str, /) -> list[str]:
        return ["no mapping reads this queue"]


def run(monkeypatch: pytest.MonkeyPatch, found: Any, *arguments: str) -> tuple[int, list[Any]]:
    opened: list[Any] = []

    def source_for(options: Any, *, back_s: float | None) -> Source:
        opened.append(back_s)
        return Source(found)

    monkeypatch.setattr(trace, "source_for", source_for)
    return trace.run(parser().parse_args(["trace", *arguments])), opened


def test_the_waterfall_and_why_it_does_not_move(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"id": "12345678-1", "spans": [SPAN]}
    assert run(monkeypatch, found, "12345678", "--since", "2h") == (exits.DONE, [7200])
    head, line, reason = capsys.readouterr().out.splitlines()
    assert head == "12345678-1, 1 steps, 0 ms"
    assert "→ task send" in line
    assert reason == "why: no mapping reads this queue"


def test_json_is_the_api_s(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"id": "12345678-1", "spans": [SPAN]}
    assert run(monkeypatch, found, "12345678", "--json") == (exits.DONE, [None])
    assert json.loads(capsys.readouterr().out) == found


def test_nothing_has_that_id(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, None, "12345678") == (exits.NO, [None])
    assert capsys.readouterr() == ("", "nothing has the id 12345678 in the emulator\n")


def test_too_short_an_id_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(LocalError, match="8 characters"):
        run(monkeypatch, None, "1234567")
