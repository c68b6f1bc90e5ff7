from __future__ import annotations

import io

import pytest

from twolane_local.cli.flags import UnconfirmedError, confirm


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def never() -> str:
    raise AssertionError("nobody was to be asked")


def end() -> str:
    raise EOFError


def test_yes_is_yes() -> None:
    confirm("Delete?", yes=True, needed=True, terminal=Terminal(), answer=never)


def test_a_script_needs_the_flag_for_what_is_somebodys() -> None:
    with pytest.raises(UnconfirmedError, match=r"Delete.* --yes"):
        confirm("Delete?", yes=False, needed=True, terminal=io.StringIO(), answer=never)
    confirm("Delete?", yes=False, needed=False, terminal=io.StringIO(), answer=never)


@pytest.mark.parametrize("needed", [True, False])
@pytest.mark.parametrize("said", ["y", " YES "])
def test_a_person_is_asked_on_stderr(
    capsys: pytest.CaptureFixture[str], said: str, needed: bool
) -> None:
    confirm("Delete?", yes=False, needed=needed, terminal=Terminal(), answer=lambda: said)
    assert capsys.readouterr() == ("", "Delete? [y/N] ")


@pytest.mark.parametrize("answer", [lambda: "", lambda: "n", lambda: "yess", end])
def test_anything_else_is_no(answer: object) -> None:
    with pytest.raises(UnconfirmedError, match="nothing was changed"):
        confirm("?", yes=False, needed=False, terminal=Terminal(), answer=answer)  # type: ignore[arg-type]
