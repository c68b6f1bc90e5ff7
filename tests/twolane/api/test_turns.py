"""The hand-over between the handler's thread and the extension's."""

from __future__ import annotations

import threading

import pytest

from twolane.api.awake import Turns


def _work() -> None:
    """Something that a request left to be done."""


def test_work_is_handed_over_once_its_response_is_posted() -> None:
    turns = Turns()
    turns.leave("a", _work)
    assert turns.take("a", 0) is None, "the response has not left"
    turns.posted("a")
    assert turns.take("a", 0) is _work
    assert turns.take("a", 0) is None, "once"


def test_who_comes_late_still_gets_it() -> None:
    """The extension may hear of an invocation only after its response has been posted."""
    turns = Turns()
    turns.leave("a", _work)
    turns.posted("a")
    turns.posted("b")
    assert turns.take("a", 0) is _work
    assert turns.take("b", 60) is None, "an invocation without work ends at once"


def test_who_comes_early_waits() -> None:
    """It may as well hear of it before the handler's thread does."""
    turns = Turns()
    taken: list[object] = []
    extension = threading.Thread(target=lambda: taken.append(turns.take("a", 60)))
    extension.start()
    turns.posted("an earlier invocation")
    turns.leave("a", _work)
    assert extension.is_alive()
    turns.posted("a")
    extension.join(30)
    assert taken == [_work]


@pytest.mark.parametrize("timeout_s", [0, 0.01])
def test_nobody_waits_beyond_the_deadline(timeout_s) -> None:
    assert Turns().take("never posted", timeout_s) is None


def test_invocations_that_nobody_takes_do_not_pile_up() -> None:
    turns = Turns()
    for number in range(1000):
        turns.leave(str(number), _work)
        turns.posted(str(number))
    assert turns.take("0", 0) is None
    assert turns.take("999", 0) is _work
    assert len(turns._posted) < 100
