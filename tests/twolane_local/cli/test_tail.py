from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.cli import exits, tail
from twolane_local.cli.parser import parser
from twolane_local.journal import Event
from twolane_local.journal.filters import Filter

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pytest


def event(number: int, **data: Any) -> Event:
    return Event(
        number, 1000.0 + number, "log", function="f", data={"line": f"line {number}", **data}
    )


class Source:
    """Two events before; the second comes again with what follows."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def events(self, wanted: Filter, *, since: float | None, limit: int) -> list[Event]:
        self.asked.append((wanted, since, limit))
        return [event(1), event(2)]

    def follow(self, wanted: Filter) -> Iterator[Event]:
        self.asked.append("follow")
        return iter([event(2), event(3)])


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> Source:
    source = Source()
    monkeypatch.setattr(tail, "source_for", lambda options, back_s: source)
    assert tail.run(parser().parse_args(["tail", *arguments])) == exits.DONE
    return source


def test_the_last_fifty_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = run(monkeypatch, "--task", "send", "--state", "failed")
    assert source.asked == [(Filter(task="send", state="failed"), None, 50)]
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == ["line 1", "line 2"]


def test_a_follower_repeats_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = run(monkeypatch, "-f", "-n", "2", "--json")
    assert source.asked[0] == "follow", "before the past is read, so that nothing is missed"
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["data"]["line"] for line in lines] == ["line 1", "line 2", "line 3"]


def test_whoever_asks_for_a_kind_sees_the_steps_in_between_too(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    step = Event(1, 1000.0, "message.received", queue="tasks", message_id="m-1")
    monkeypatch.setattr(Source, "events", lambda *args, **more: [step])
    run(monkeypatch)
    assert capsys.readouterr().out == ""
    run(monkeypatch, "--kind", "message")
    assert "received" in capsys.readouterr().out


def test_a_span_takes_all_that_is_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.time", lambda: 5000.0)
    (asked,) = run(monkeypatch, "--since", "1m").asked
    assert asked[1:] == (4940.0, 1_000_000)


def test_secrets_are_left_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        Source, "events", lambda *args, **more: [event(1, user={"password": "geheim"})]
    )
    run(monkeypatch, "--json")
    assert "geheim" not in capsys.readouterr().out
