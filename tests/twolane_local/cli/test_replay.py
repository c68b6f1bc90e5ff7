from __future__ import annotations

import io
from typing import Any

import pytest

from twolane_local.cli import exits, replay
from twolane_local.cli.flags import UnconfirmedError
from twolane_local.cli.parser import parser
from twolane_local.remote.source import Edit


class Source:
    where = "stack shop (1, eu)"

    def __init__(self, *, real: bool) -> None:
        self.real = real
        self.done: list[Any] = []

    def replay(self, identifier: str, edit: Edit) -> Any:
        self.done.append((identifier, edit))
        return {"kind": "task", "id": "t-2"}


def run(monkeypatch: pytest.MonkeyPatch, source: Source, *arguments: str) -> int:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr(replay, "source_for", lambda options: source)
    return replay.run(parser().parse_args(["replay", *arguments]))


def test_something_runs_again(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source(real=False)
    assert run(monkeypatch, source, "t-1", "--kwargs", "{}") == exits.DONE
    assert source.done == [("t-1", Edit(kwargs={}))]
    assert capsys.readouterr().out == "t-1 runs again as task t-2\n"


def test_a_stack_is_only_read_without_a_yes(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source(real=True)
    with pytest.raises(UnconfirmedError, match="stack shop"):
        run(monkeypatch, source, "t-1")
    assert source.done == []
    assert run(monkeypatch, source, "t-1", "--yes") == exits.DONE
