from __future__ import annotations

from typing import Any

import pytest

from twolane_local.remote.source import Edit, MessageChoice

MESSAGE = {"id": "aaaaaaaa-1111", "task": {"id": "bbbbbbbb-2222", "name": "send"}}


@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        (MessageChoice(everything=True), True),
        (MessageChoice(), False),
        (MessageChoice(task="send"), True),
        (MessageChoice(task="other"), False),
        (MessageChoice(("aaaaaaaa-1111",)), True),
        (MessageChoice(("aaaaaaaa",)), True),
        (MessageChoice(("bbbbbbbb",)), True),
        (MessageChoice(("aaaaaaa",)), False),
        (MessageChoice(("x", "bbbbbbbb-2222")), True),
        (MessageChoice(("",)), False),
        (MessageChoice(("aaaaaaaa-1111",), task="other"), False),
    ],
)
def test_which_messages_are_meant(choice: MessageChoice, taken: bool) -> None:
    assert choice.includes(MESSAGE) is taken


@pytest.mark.parametrize("task", [None, {}])
def test_what_is_no_task_is_meant_by_its_own_id_alone(task: Any) -> None:
    message = {"id": "aaaaaaaa-1111", "task": task}
    assert MessageChoice(("aaaaaaaa-1111",)).includes(message)
    assert not MessageChoice(("",)).includes(message)
    assert not MessageChoice(task="send").includes(message)


def test_a_choice_in_words() -> None:
    assert str(MessageChoice(everything=True)) == "all messages"
    assert str(MessageChoice(("a", "b"))) == "message a and message b"
    assert str(MessageChoice(task="send")) == "the messages of send"


def test_an_edit_is_true_where_it_says_something() -> None:
    assert not Edit()
    assert Edit(args=[])
    assert Edit(kwargs={}).as_dict() == {"kwargs": {}}
