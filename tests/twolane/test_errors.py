from __future__ import annotations

from twolane.errors import PublishError, StoreUnavailableError, TwolaneError


def test_docstring_is_the_default_message() -> None:
    assert str(PublishError()) == (
        "A task could not be put on its queue; nothing was enqueued, so it is safe to try again."
    )


def test_message_given_wins() -> None:
    assert str(PublishError("queue 'tasks' refused the message")) == (
        "queue 'tasks' refused the message"
    )


def test_one_root() -> None:
    assert issubclass(StoreUnavailableError, TwolaneError)
