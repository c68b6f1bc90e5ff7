"""The output and the questions of `twolane dlq`; tests/e2e/test_commands.py runs it on an emulator,
tests/twolane_local/remote on a stack.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.cli import dlq, exits
from twolane_local.cli.flags import UnconfirmedError
from twolane_local.cli.parser import parser
from twolane_local.errors import LocalError
from twolane_local.remote.source import Edit, MessageChoice

if TYPE_CHECKING:
    import argparse

LETTER = {
    "id": "m1-000000", "queue": "dead", "sentAt": 940.0, "receiveCount": 2, "source": "tasks",
    "task": {"id": "t1-000000", "name": "send", "args": [1], "kwargs": {}}, "body": '{"a": 1}',
    "error": {"type": "ValueError", "message": "no\ngood"},
}  # fmt: skip


class Source:
    """Records its calls; has two dead-letter queues, of which one is empty."""

    where = "stack shop (1, eu)"

    def __init__(self, *, real: bool = False, failed: list[Any] | None = None) -> None:
        self.real, self.failed = real, failed or []
        self.done: list[tuple[Any, ...]] = []

    def queues(self) -> list[Any]:
        return [{"name": "tasks", "deadLetterOf": []}, {"name": "dead", "deadLetterOf": ["tasks"]},
                {"name": "empty", "deadLetterOf": ["other"]}]  # fmt: skip

    def messages(self, queue: str, *, limit: int) -> list[Any]:
        return [LETTER] if queue == "dead" else []

    def message(self, queue: str, identifier: str) -> Any:
        return LETTER if queue == "dead" and identifier == "m1-000000" else None

    def redrive(self, queue: str, choice: MessageChoice, *, to: str | None, edit: Edit) -> Any:
        self.done.append((queue, choice, to, edit))
        if queue != "dead" or not choice.includes(LETTER):
            return {"redriven": [], "failed": []}
        moved = {"messageId": "m1-000000", "newMessageId": "n", "queue": "tasks"}
        return {"redriven": [] if self.failed else [moved], "failed": self.failed}

    def purge(self, queue: str, choice: MessageChoice) -> int:
        self.done.append((queue, choice))
        return int(queue == "dead" and choice.includes(LETTER))


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())


def run(monkeypatch: pytest.MonkeyPatch, source: Source, *arguments: str) -> int:
    monkeypatch.setattr(dlq, "source_for", lambda options: source)
    options: argparse.Namespace = parser().parse_args(["dlq", *arguments])
    return dlq.run(options)


def test_a_line_for_each_dead_letter() -> None:
    assert dlq.dead_letters_table([LETTER], now=1000.0).splitlines() == [
        "MESSAGE      AGE  CAME FROM  TASK     LAST ERROR",
        "m1-000000  1 min  tasks      send(1)  ValueError: no good",
    ]
    assert dlq.dead_letters_table([], now=0) == "there is no dead letter"


def test_every_dead_letter_queue_is_looked_into(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source()
    assert run(monkeypatch, source, "redrive", "--id", "m1-00000") == exits.DONE
    assert [queue for queue, *_ in source.done] == ["dead", "empty"]
    assert capsys.readouterr().out == "m1-000000 is on tasks again, as n\n"


def test_what_stays_is_said_and_is_no(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = Source(failed=[{"messageId": "m1-000000", "why": "denied\x1b"}])
    assert run(monkeypatch, source, "redrive", "--all", "--queue", "dead") == exits.NO
    assert capsys.readouterr() == ("", "! m1-000000 stays: denied\\x1b\n")


@pytest.mark.parametrize(
    ("chosen", "code"), [(["--all"], exits.DONE), (["--task", "other"], exits.NO)]
)
def test_nothing_to_redrive(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    chosen: list[str],
    code: int,
) -> None:
    assert run(monkeypatch, Source(), "redrive", "--queue", "empty", *chosen) == code
    assert "no dead letter in stack shop" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("real", "arguments", "asked"),
    [
        (False, ["redrive", "--all"], False),
        (True, ["redrive", "--all"], True),
        (True, ["redrive", "--all", "--yes"], False),
        (False, ["purge", "--all"], True),
        (False, ["purge", "--all", "--yes"], False),
    ],
)
def test_what_needs_a_yes(
    monkeypatch: pytest.MonkeyPatch, real: bool, arguments: list[str], asked: bool
) -> None:
    source = Source(real=real)
    if asked:
        with pytest.raises(UnconfirmedError, match=r"all messages in .*stack shop .*--yes"):
            run(monkeypatch, source, *arguments)
        assert source.done == []
    else:
        assert run(monkeypatch, source, *arguments) == exits.DONE
        assert source.done


def test_one_edit_is_for_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    for several in (["--all"], ["--task", "send"], ["--id", "a", "--id", "b"]):
        with pytest.raises(LocalError, match="edit one message"):
            run(monkeypatch, source, "redrive", *several, "--args", "[]")
    run(monkeypatch, source, "redrive", "--id", "m1-000000", "--kwargs", '{"a": 1}', "--to", "x")
    assert source.done[0] == ("dead", MessageChoice(("m1-000000",)), "x", Edit(kwargs={"a": 1}))


def test_show_is_whole_and_safe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, Source(), "show", "m1-000000") == exits.DONE
    shown = capsys.readouterr().out
    assert "task       send(1)\n" in shown
    assert "error      ValueError: no good\n" in shown
    assert shown.endswith('{\n  "a": 1\n}\n')
    assert run(monkeypatch, Source(), "show", "other") == exits.NO


def test_a_source_without_dead_letter_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Source()
    monkeypatch.setattr(source, "queues", list)
    with pytest.raises(LocalError, match="RedrivePolicy"):
        run(monkeypatch, source, "list")
