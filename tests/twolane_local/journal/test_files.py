from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest

from twolane_local.clock import SystemClock
from twolane_local.errors import LocalError
from twolane_local.journal import Journal, files


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "journal.jsonl"


def test_what_the_journal_wrote_is_read_again(file: Path) -> None:
    journal = Journal(SystemClock())
    journal.record("task.published", function="Api", request_id="r", task_id="t", taskName="x")
    journal.record("task.succeeded", queue="q", message_id="m", durationMs=1.5)
    file.write_text("".join(f"{json.dumps(event.as_dict())}\n\n" for event in journal))
    assert files.read(file) == list(journal)


def test_stdin_is_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", StringIO('{"kind": "log", "at": 1}\n'))
    assert [event.kind for event in files.read(Path("-"))] == ["log"]


@pytest.mark.parametrize("wrap", [list, lambda events: {"events": events, "more": False}])
def test_the_control_apis_answer_is_read(file: Path, wrap: object) -> None:
    assert callable(wrap)
    raw = {"seq": 7, "at": 1.0, "kind": "log", "requestId": "r", "taskId": "t", "messageId": "m"}
    file.write_text(json.dumps(wrap([raw])))
    (event,) = files.read(file)
    assert (event.request_id, event.task_id, event.message_id) == ("r", "t", "m")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"kind": "log", "at": 1}\nnonsense\n', ":2 is not JSON"),
        ('{"kind": "log", "at": 1}\n{"kind": "log"}\n', ":2 is not a journal event"),
        ("[1]", ":1 is not a journal event"),
    ],
)
def test_half_a_journal_is_an_error(file: Path, text: str, says: str) -> None:
    file.write_text(text)
    with pytest.raises(LocalError, match=says):
        files.read(file)


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(LocalError, match="cannot be read"):
        files.read(file)
