from __future__ import annotations

import pytest

from twolane_local.journal.filters import Filter, from_query, state_of


@pytest.fixture
def events(journal):
    journal.record("request.received", request_id="req-1", method="GET", path="/x")
    journal.record("task.failed", function="Worker", task_id="task-1", queue="q",
                   errorType="ValueError",
                   taskName="app.send", originRequestId="req-1")  # fmt: skip
    journal.record("request.answered", request_id="req-1", status=503)
    journal.record("log", function="Api", line="Hello there", level="ERROR")
    journal.record("task.succeeded", task_id="task-2", taskName="app.send")
    return list(journal)


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        ({}, [1, 2, 3, 4, 5]),
        ({"kind": "task"}, [2, 5]),
        ({"function": "Worker"}, [2]),
        ({"queue": "q"}, [2]),
        ({"task": "app.send", "state": "ok"}, [5]),
        ({"state": "failed"}, [2, 3, 4]),
        ({"id": "req"}, [1, 2, 3]),
        ({"text": "hello"}, [4]),
        ({"text": "valueerror", "kind": "task"}, [2]),
        ({"text": "nowhere"}, []),
        ({"unknown": "x"}, [1, 2, 3, 4, 5]),
    ],
)
def test_all_that_is_given_must_match(events, query, seqs):
    wanted = from_query(query)
    assert [event.seq for event in events if wanted.matches(event)] == seqs


def test_text_is_found_in_bytes(journal):
    event = journal.record("invocation.started", payload=b'{"needle": 1}')
    assert Filter(text="NEEDLE").matches(event)


def test_states(events):
    assert [state_of(event) for event in events] == ["running", "failed", "failed", "failed", "ok"]
