from __future__ import annotations

import argparse

import pytest

from twolane_local.cli.flags import arguments_flags, edit_of
from twolane_local.errors import LocalError
from twolane_local.remote.source import Edit


def given(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    arguments_flags(parser, what="x")
    return parser.parse_args(arguments)


def test_json_lists_and_objects() -> None:
    assert edit_of(given("--args", '["a", 2]', "--kwargs", '{"b": null}')) == Edit(
        args=["a", 2], kwargs={"b": None}
    )
    assert not edit_of(given())
    assert edit_of(given("--args", "[]")), "no arguments are arguments"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--args", "a@example.com"], "--args is not JSON"),
        (["--args", "{}"], "--args takes a JSON list such as "),
        (["--kwargs", "[]"], "--kwargs takes a JSON object such as "),
    ],
)
def test_mistakes_show_how_to_write_it(arguments: list[str], words: str) -> None:
    with pytest.raises(LocalError, match=words):
        edit_of(given(*arguments))
