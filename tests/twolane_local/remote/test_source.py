from __future__ import annotations

from typing import Any

import pytest

from twolane_local.remote.source import Choice, Edit

MESSAGE = {"id": "aaaaaaaa-1111", "task": {"id": "bbbbbbbb-2222", "name": "send"}}


@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        (Choice(everything=True), True),
        (Choice(), False),
        (Choice(task="send"), True),
        (Choice(task="other"), False),
        (Choice(("aaaaaaaa-1111",)), True),
        (Choice(("aaaaaaaa",)), True),
        (Choice(("bbbbbbbb",)), True),
        (Choice(("aaaaaaa",)), False),
        (Choice(("x", "bbbbbbbb-2222")), True),
        (Choice(("",)), False),
        (Choice(("aaaaaaaa-1111",), task="other"), False),
    ],
)
def test_which_messages_are_meant(choice: Choice, taken: bool) -> None:
    assert choice.takes(MESSAGE) is taken


@pytest.mark.parametrize("task", [None, {}])
def test_what_is_no_task_is_meant_by_its_own_id_alone(task: Any) -> None:
    message = {"id": "aaaaaaaa-1111", "task": task}
    assert Choice(("aaaaaaaa-1111",)).takes(message)
    assert not Choice(("",)).takes(message)
    assert not Choice(task="send").takes(message)


def test_a_choice_in_words() -> None:
    assert str(Choice(everything=True)) == "all messages"
    assert str(Choice(("a", "b"))) == "message a and message b"
    assert str(Choice(task="send")) == "the messages of send"


def test_an_edit_is_true_where_it_says_something() -> None:
    assert not Edit()
    assert Edit(args=[])
    assert Edit(kwargs={}).as_dict() == {"kwargs": {}}
