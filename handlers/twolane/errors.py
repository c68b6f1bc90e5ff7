"""One exception root. A class's docstring is its default message and holds the remedy."""

from __future__ import annotations

import inspect


class TwolaneError(Exception):
    """twolane could not go on; the cause is chained."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or inspect.getdoc(type(self)))


class ConfigurationError(TwolaneError):
    """A setting is missing or wrong; the message names it and says what to set."""


class MalformedMessageError(TwolaneError):
    """A message on a task queue is not a Celery message; it goes back, and in the end to the
    dead-letter queue, with its body intact.
    """


class RunawayError(TwolaneError):
    """One task has led to the next too often and too fast; see twolane_max_depth."""


class PublishError(TwolaneError):
    """A task could not be put on its queue; nothing was enqueued, so it is safe to try again."""

    #: Whether trying again may help.
    retryable = True


class StoreUnavailableError(TwolaneError):
    """The state store did not answer; nothing is lost, the message will be delivered again."""
