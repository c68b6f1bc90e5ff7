"""Tasks by what the journal tells of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from twolane_local.testing.errors import TestingError

if TYPE_CHECKING:
    from twolane_local.testing.stack import Twolane

pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated setex:DeprecationWarning")


def test_states_and_histories(stack: Twolane, application: Any) -> None:
    one = stack.client.post("/notes/a").json()["id"]
    assert (stack.tasks[one].state, stack.tasks[one].done) == ("PENDING", False)
    chain = stack.client.post("/run/chain", json=[1]).json()["id"]
    stack.deferred.run()
    assert stack.tasks[one].steps == ["published", "started", "succeeded"]
    assert stack.tasks[chain].state == "RETRY"
    stack.deferred.run_until_idle()
    task = stack.tasks["chain"]
    assert (task.id, task.state, task.attempts, task.done) == (chain, "SUCCESS", 2, True)
    assert [task.name for task in stack.tasks] == ["small.note", "small.chain"]


def test_a_dead_letter_is_the_end_of_its_task(stack: Twolane) -> None:
    stack.client.post("/run/broken", json=[])
    stack.deferred.run_until_idle()
    assert (stack.tasks["small.broken"].state, stack.tasks["broken"].done) == ("DEAD", True)
    assert stack.tasks["broken"].steps[-1] == "dead_lettered"


def test_a_revoked_task(stack: Twolane, application: Any) -> None:
    identity = stack.client.post("/notes/a").json()["id"]
    application.celery.control.revoke(identity)
    stack.deferred.run()
    assert stack.tasks[identity].state == "REVOKED"
    assert application.calls == []


def test_names_that_are_not_unique(stack: Twolane) -> None:
    stack.client.post("/notes/a")
    stack.client.post("/notes/b")
    assert (len(stack.tasks.named("note")), len(stack.tasks)) == (2, 2)
    with pytest.raises(TestingError, match=r"2 tasks are called 'note', not one; .*small\.note\["):
        _ = stack.tasks["note"]
    with pytest.raises(TestingError, match="0 tasks are called 'nope'"):
        _ = stack.tasks["nope"]
