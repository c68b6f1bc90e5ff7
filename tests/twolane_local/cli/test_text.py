from __future__ import annotations

import io
import json
from typing import Any

import pytest

from twolane_local.cli.text import (
    columns,
    error_text,
    milliseconds,
    one_line,
    print_json,
    red,
    seconds,
    table,
)
from twolane_local.journal.lines import printable


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x1b[31mb", "a\\x1b[31mb"),
        ("a\x9b31mb", "a\\x9b31mb"),
        ("a\x07\r\x00", "a\\x07\\x0d\\x00"),
        ("a\u202eb\u2066", "a\\x202eb\\x2066"),
        ("tab\tnew\nline ä 日本", "tab\tnew\nline ä 日本"),
    ],
)
def test_text_of_others_cannot_drive_the_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("text", "width", "shown"),
    [
        ("a\nb  c", None, "a b c"),
        ("abcdef", 4, "abc…"),
        ("日本日本", 5, "日本…"),
        ("abc", 3, "abc"),
    ],
)
def test_one_line_is_cut_by_columns(text: str, width: int | None, shown: str) -> None:
    assert one_line(text, width) == shown


@pytest.mark.parametrize(("text", "width"), [("abc", 3), ("日本", 4), ("e\u0301", 1)])
def test_columns(text: str, width: int) -> None:
    assert columns(text) == width


def test_a_table_lines_up_whatever_is_in_it() -> None:
    rows = [["日本", 7, "x"], ["a\x1bb", None, "y  "]]
    assert table(["NAME", "N", "LAST"], rows, right=(1,)) == (
        "NAME    N  LAST\n"
        "日本    7  x\n"
        "a\\x1bb     y"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (0.4, "0 ms"), (999, "999 ms"), (1340, "1.3 s"), (245_000, "4 min 5 s")],
)
def test_milliseconds(value: float | None, shown: str) -> None:
    assert milliseconds(value) == shown


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, ""),
        (-3, "0 s"),
        (41, "41 s"),
        (60, "1 min"),
        (7384, "2 h 3 min"),
        (273_600, "3 d 4 h"),
    ],
)
def test_seconds(value: float | None, shown: str) -> None:
    assert seconds(value) == shown


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (None, ""),
        ("ValueError", "ValueError"),
        ({"type": "ValueError", "message": "no: good"}, "ValueError: no: good"),
        ({"type": "GoneError", "message": "app.mail.GoneError: no"}, "GoneError: no"),
        ({"type": "GoneError", "message": None}, "GoneError"),
        ({"message": "no"}, "no"),
        ({}, ""),
    ],
)
def test_errors_say_their_type_once(error: Any, shown: str) -> None:
    assert error_text(error) == shown


def test_json_is_one_line_for_a_script(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"name": "ä"})
    assert capsys.readouterr().out == '{"name": "ä"}\n'


def test_json_is_indented_for_a_person(monkeypatch: pytest.MonkeyPatch) -> None:
    out = Terminal()
    monkeypatch.setattr("sys.stdout", out)
    value: Any = {"a": [1]}
    print_json(value)
    assert json.loads(out.getvalue()) == value
    assert out.getvalue().count("\n") > 1


def test_colour_is_for_terminals_that_want_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert red("x", io.StringIO()) == "x"
    assert red("x", Terminal()) == "\x1b[31mx\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert red("x", Terminal()) == "x"
