from __future__ import annotations

import re
from pathlib import Path

import pytest

from twolane_local.cli import exits
from twolane_local.cli.parser import COMMANDS
from twolane_local.cli.reference import page, reference

PAGE = Path(__file__).parents[3] / "docs" / "commands.md"


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting of this shell may show in the page."""
    monkeypatch.delenv("REDIS_URL", raising=False)


def test_the_page_says_what_the_parser_says(wide: None) -> None:
    text = PAGE.read_text("utf-8")
    assert page(text) == text, "run `python -m twolane_local.cli.reference`"


def test_every_command_and_exit_code_is_in_it() -> None:
    text = reference()
    assert re.findall(r"^### `twolane ([a-z]+)`$", text, re.MULTILINE) == list(COMMANDS)
    for code, meaning in exits.MEANINGS.items():
        assert f"| {code} | {meaning} |" in text


def test_every_exit_code_has_a_meaning() -> None:
    codes = {value for name, value in vars(exits).items() if name.isupper() and name != "MEANINGS"}
    assert codes == set(exits.MEANINGS)
