from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from twolane_local.aws.lambda_ import inprocess
from twolane_local.clock import SystemClock
from twolane_local.journal import Event, Journal

if TYPE_CHECKING:
    import pytest


def captured(function: str | None, *texts: str) -> list[Event]:
    async def main() -> list[Event]:
        journal = Journal(SystemClock())
        with inprocess.captured(journal, asyncio.get_running_loop()):
            inprocess.current.set(inprocess.Writer(function, "r-1") if function else None)
            for text in texts:
                sys.stdout.write(text)
            await asyncio.sleep(0)
        return list(journal)

    return asyncio.run(main())


def test_the_runtimes_lines_go_into_the_journal(capsys: pytest.CaptureFixture[str]) -> None:
    (event,) = captured("fn", '{"logger": "twolane", "event": "task.started", "taskId": "t"}\n')
    assert (event.kind, event.function, event.request_id, event.task_id) == (
        "task.started", "fn", "r-1", "t",
    )  # fmt: skip
    assert capsys.readouterr().out == ""


def test_everything_else_passes_through(capsys: pytest.CaptureFixture[str]) -> None:
    assert captured("fn", "(Pdb) ", "plain\n") == []
    assert captured(None, '{"event": "task.started"}\n') == []
    assert capsys.readouterr().out == '(Pdb) plain\n{"event": "task.started"}\n'


def test_the_streams_are_put_back() -> None:
    before = sys.stdout
    captured("fn")
    assert sys.stdout is before
