"""A project's stack for its tests.

======================= ============================================================================
``stack``               The stack of one test: the fixture ``twolane``; the simulator drives it too.
``project``             What a stack is made from: a template, or handlers.
``application_code``    The application's modules, imported once for each environment.
``stale_imports``       What a test holds of an application that was imported too early.
``virtual_environment`` An execution environment of a stack, and what its handler logs.
``world``               Virtual time for the whole process, its thread, and chance from one seed.
``waits``               Where code waits for time, and what makes it wait for virtual time.
``deferred``            The deferred lane, mappings and schedules, which run when the test says so.
``mocked_aws``          AWS in this process: our services, moto's mocks, and nothing real.
``stores``              The result stores: an embedded Redis, and moto's DynamoDB.
``task_points``         The points inside a task at which faults strike.
``views``               What a test sees: journal, tasks, queues.
``client``              An HTTP client of a stack, without a socket.
``simulation``          Schedules of requests and faults against an application, on such a stack.
``processes``           The same stack on real parts: processes, signals, sockets, a real Redis.
======================= ============================================================================

Here are the errors of all of them.
"""

from __future__ import annotations

from twolane_local.errors import LocalError


class TestingError(LocalError):
    """The stack of a test cannot do what the test asks of it."""

    __test__ = False  # to pytest, a class named Test… is a test


class NotIdleError(TestingError):
    """The deferred lane never ran empty; a task that publishes itself again never lets it."""


class StaleImportError(TestingError):
    """The application was imported before the stack gave it its environment."""
