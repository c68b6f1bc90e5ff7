from __future__ import annotations

import pytest

from twolane_local.aws.sqs.service import NewMessage
from twolane_local.console.function_routes import environment_of, figures_of, memory_of
from twolane_local.model.states import EnvironmentState


def ended(journal, request_id, memory_mb):
    journal.record("invocation.ended", function="fn", request_id=request_id, durationMs=2.0,
                   maxMemoryMb=memory_mb)  # fmt: skip


def test_what_an_invocation_s_environment_used_is_found_by_its_request(journal):
    for request_id, memory_mb in (("a", 60), ("b", 70), ("unknown", 0)):
        ended(journal, request_id, memory_mb)
    latest_first = list(journal)[::-1]
    assert memory_of(latest_first, {"a", "running", "unknown"}) == {"a": 60}
    assert memory_of(latest_first, set()) == {}


def test_figures_of_a_function(journal):
    journal.record("invocation.started", function="fn", request_id="a", cold=True)
    ended(journal, "a", 60)
    journal.record("invocation.throttled", function="fn", request_id="b")
    found = figures_of(journal)["fn"]
    assert (found["invocations"], found["coldStarts"], found["throttles"]) == (1, 1, 1)
    assert (found["p50Ms"], found["maxMemoryMb"]) == (2.0, 60)


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (
            EnvironmentState("1", "cold", 0.5, 0, ()),
            {"id": "1", "state": "cold", "since": 99.5, "memoryMb": None, "invocations": 0},
        ),
        (  # the running invocation has no figure yet, the one before it has
            EnvironmentState("2", "busy", 5.0, 2, ("second", "first")),
            {"id": "2", "state": "busy", "since": 95.0, "memoryMb": 60, "invocations": 2,
             "requestId": "second"},
        ),
        (
            EnvironmentState("3", "frozen", 5.0, 2, ("third", "first")),
            {"id": "3", "state": "frozen", "since": 95.0, "memoryMb": 64, "invocations": 2},
        ),
    ],
    ids=["cold", "busy", "frozen"],
)  # fmt: skip
def test_an_environment_as_it_is_told(state, shown):
    assert environment_of(state, 100.0, {"first": 60, "third": 64}) == shown


def test_each_invocation_that_failed_is_one_error(tell, journal):
    """By its answer, by its end after it, or by both."""
    for answered in (False, True):
        tell.queues.send("tasks", NewMessage("x"))
        tell.receive()
        tell.killed(answered=answered)
    tell.queues.send("tasks", NewMessage("x"))
    tell.end(tell.receive(), delete=True)
    journal.record("fault.injected", function="Worker", request_id=tell.batch,
                   name="environment.killed-after-task")  # fmt: skip
    found = figures_of(reversed(tuple(journal)))["Worker"]
    assert (found["invocations"], found["errors"]) == (3, 3)
