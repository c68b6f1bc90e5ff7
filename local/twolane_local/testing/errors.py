"""What can go wrong about a test's stack."""

from __future__ import annotations

from twolane_local.errors import LocalError


class TestingError(LocalError):
    """The stack of a test cannot do what the test asks of it."""

    __test__ = False  # to pytest, a class named Test… is a test


class NotIdleError(TestingError):
    """The deferred lane never ran empty; a task that publishes itself again never lets it."""


class StaleImportError(TestingError):
    """The application was imported before the stack gave it its environment."""


class EnvironmentKilled(BaseException):
    """The execution environment is gone. No Exception: nothing in a handler shall catch it."""
