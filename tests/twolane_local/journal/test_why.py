from __future__ import annotations

import pytest

from twolane_local.aws.event_source_mapping import EventSourceMappings
from twolane_local.aws.sqs.service import NewMessage
from twolane_local.console.state import message_state, queue_states
from twolane_local.journal.why import why
from twolane_local.model import FunctionSpec
from twolane_local.model.states import MappingState, PoolState, Snapshot

IDLE = PoolState(32, None, 0, 1, 0, 0)


@pytest.fixture
def mapping():
    return MappingState("m", "tasks", "Worker", True, 10, 2, 0, 2, False)


@pytest.fixture
def ask(tell, journal, tmp_path):
    """Why, with the queues as they are and the mappings and pools that a test gives."""

    def ask(identity, mappings=(), pools=(), paused=False):
        queues = {}
        for name, state in queue_states(tell.queues, EventSourceMappings()).items():
            own = tuple(each for each in mappings if each.queue == name)
            queues[name] = _replace(state, mappings=own)
        messages = {
            entry.message.id: message_state(tell.queues.refreshed(name), entry)
            for name in tell.queues.names()
            for entry in tell.queues.refreshed(name)
        }
        functions = {
            name: (FunctionSpec(name, name, "h", tmp_path, timeout_s=30), state)
            for name, state in pools
        }
        snapshot = Snapshot(tell.clock.now, queues, messages, functions, paused)
        return why(list(journal), identity, snapshot)

    return ask


def _replace(state, **changes):
    from dataclasses import replace

    return replace(state, **changes)


def only(answer):
    assert len(answer.reasons) == 1, answer
    return answer.reasons[0]


def failed_once(tell, **data):
    tell.request()
    message = tell.publish("task-aaaa")
    received = tell.receive()
    tell.task("started", "task-aaaa", received, attempt=1)
    tell.task("failed", "task-aaaa", received, **data)
    tell.end(received, delete=False)
    return message


def test_in_flight_after_a_failure(tell, ask, mapping):
    message = failed_once(tell, errorType="ValueError")
    for identity in (message, "task-aaaa"):
        reason = only(ask(identity, [mapping]))
        assert reason.text == (
            "in flight at receive 1 of 2 on tasks; visible again in 30 s, since Worker failed "
            "with ValueError; then it is received again"
        )
        assert reason.numbers["receiveCount"] == 1
        assert reason.state == "waiting"


def test_at_the_last_receive_it_goes_to_the_dead_letter_queue(tell, ask, mapping):
    message = failed_once(tell, errorType="ValueError")
    tell.clock.now += 31
    received = tell.receive()
    tell.end(received, delete=False)
    assert only(ask(message, [mapping])).text.endswith("then it goes to dead")


def test_the_worker_has_it(tell, ask, mapping):
    tell.request()
    message = tell.publish("task-aaaa")
    tell.receive()
    tell.clock.now += 3
    reason = only(ask(message, [mapping]))
    assert (reason.code, reason.state) == ("runs", "running")
    assert "Worker has had it for 3.0 s" in reason.text


def test_the_function_failed_as_a_whole(tell, journal, ask, mapping):
    message = tell.queues.send("tasks", NewMessage("x")).id
    tell.receive()
    journal.record("invocation.responded", function="Worker", request_id=tell.batch,
                   error="Unhandled", payload=b'{"errorType": "Runtime.ExitError"}')  # fmt: skip
    journal.record("invocation.ended", function="Worker", request_id=tell.batch, durationMs=1)
    assert "since Worker failed with Runtime.ExitError" in only(ask(message, [mapping])).text


def test_throttled(tell, journal, ask, mapping):
    message = tell.queues.send("tasks", NewMessage("x")).id
    tell.receive()
    journal.record("invocation.throttled", function="Worker", request_id=tell.batch)
    reason = only(ask(message, [mapping]))
    assert reason.code == "throttled"
    assert "since Worker was throttled" in reason.text


def test_a_recursive_loop_that_lambda_stops(tell, journal, ask, mapping):
    message = tell.queues.send("tasks", NewMessage("x")).id
    tell.receive()
    journal.record("invocation.dropped", function="Worker", request_id=tell.batch)
    reason = only(ask(message, [mapping]))
    assert reason.code == "recursive-loop"
    assert (
        "since Lambda's recursive-loop detection does not invoke Worker for it: its chain of "
        "requests has invoked Worker 16 times (RecursiveLoop: Allow on the function"
    ) in reason.text


def test_delayed_for_a_retry(tell, ask, mapping):
    failed_once(tell, errorType="Retry")
    tell.log("task-aaaa", "Task app.send[x] retry: Retry in 41s: ProviderError('no')",
             logger="celery.app.trace")  # fmt: skip
    (received,) = list(tell.queues.refreshed("tasks"))
    tell.task("retried", "task-aaaa", received, errorType="Retry")
    message = tell.publish("task-aaaa", delay=41)
    reason = only(ask(message, [mapping]))
    assert reason.text == (
        "delayed on tasks; visible in 41 s: it will be retried since it failed with "
        "ProviderError('no')"
    )


def test_delayed_by_its_sender(tell, ask, mapping):
    message = tell.queues.send("tasks", NewMessage("x", delay_s=600)).id
    assert only(ask(message, [mapping])).text == "delayed on tasks; visible in 10 min"


def test_no_mapping_reads_the_queue(tell, ask):
    message = tell.queues.send("tasks", NewMessage("x")).id
    answer = ask(message)
    assert only(answer).text.startswith("no mapping reads this queue")
    assert (answer.state, answer.moving) == ("stuck", False)


def test_the_mapping_is_disabled(tell, ask, mapping):
    message = tell.queues.send("tasks", NewMessage("x")).id
    answer = ask(message, [_replace(mapping, enabled=False)])
    assert only(answer).text == "the mapping of tasks to Worker is disabled; enable it"
    assert answer.state == "stuck"


def test_the_mapping_is_at_its_maximum(tell, ask, mapping):
    message = tell.queues.send("tasks", NewMessage("x")).id
    reason = only(ask(message, [_replace(mapping, under_way=2)]))
    assert reason.text == (
        "mapping is at MaximumConcurrency 2: 2 batches are with Worker, 1 messages wait on tasks"
    )
    grows = _replace(mapping, under_way=5, allowed=5, maximum_concurrency=10)
    assert only(ask(message, [grows])).code == "scaling"


def test_all_environments_are_busy(tell, ask, mapping):
    message = tell.queues.send("tasks", NewMessage("x")).id
    busy = PoolState(2, 2, 2, 0, 0, 1)
    assert only(ask(message, [mapping], [("Worker", busy)])).code == "concurrency"


def test_it_is_next(tell, ask, mapping):
    message = tell.queues.send("tasks", NewMessage("x")).id
    tell.queues.send("tasks", NewMessage("y"))
    reason = only(ask(message, [mapping], [("Worker", IDLE)]))
    assert (reason.code, reason.numbers["ahead"]) == ("next", 1)


def test_a_message_of_a_noisy_group_waits_for_those_of_quiet_ones(tell, ask, mapping):
    sent = [tell.queues.send("tasks", NewMessage("x", group_id=group)).id
            for group in "a" * 33 + "b" * 2]  # fmt: skip
    for _ in range(3):
        tell.queues.receive("tasks", 10)
    reason = only(ask(sent[32], [mapping], [("Worker", IDLE)]))
    assert (reason.code, reason.numbers["ahead"]) == ("noisy-group", 2)
    assert reason.text == (
        "visible on tasks; its message group (a) is noisy, so that messages of quiet groups come "
        "first; 2 are visible, and 3 of its own"
    )
    assert only(ask(sent[33], [mapping], [("Worker", IDLE)])).code == "next"


def test_a_fifo_group_is_locked(tell, ask):
    tell.queues.create("f.fifo", {"FifoQueue": "true"})
    for body in ("1", "2"):
        message = tell.queues.send("f.fifo", NewMessage(body, group_id="g", deduplication_id=body))
    tell.queues.receive("f.fifo")
    mapping = MappingState("m", "f.fifo", "Worker", True, 10, None, 0, 5, False)
    assert only(ask(message.id, [mapping])).code == "fifo-group"


def test_a_dead_letter(tell, ask, mapping):
    message = failed_once(tell, errorType="ValueError")
    tell.clock.now += 31
    tell.end(tell.receive(), delete=False)
    tell.clock.now += 31
    tell.queues.receive("tasks")
    answer = ask(message, [mapping])
    assert only(answer).text == (
        "on dead, the dead-letter queue of tasks, after 2 receives, since Worker failed with "
        "ValueError; only a redrive moves it"
    )
    assert answer.state == "stuck"


def test_a_paused_clock_is_said_too(tell, ask, mapping):
    message = tell.queues.send("tasks", NewMessage("x", delay_s=60)).id
    answer = ask(message, [mapping], paused=True)
    assert [reason.code for reason in answer.reasons] == ["delayed", "paused"]
    assert answer.state == "stuck"


@pytest.mark.parametrize(
    ("kind", "text"),
    [("succeeded", "it succeeded"), ("failed", "it failed and is not retried (KeyError)"),
     ("revoked", "it was revoked")],
)  # fmt: skip
def test_a_task_that_is_over(tell, ask, kind, text):
    tell.request()
    tell.publish("task-aaaa")
    received = tell.receive()
    tell.task("started", "task-aaaa", received, attempt=1)
    tell.task(kind, "task-aaaa", received,
              **({"errorType": "KeyError"} if kind == "failed" else {}))  # fmt: skip
    tell.end(received, delete=True)
    answer = ask("task-aaaa")
    assert only(answer).text == text
    assert (answer.state, answer.moving) == ("over", False)


def test_a_message_that_is_gone(tell, journal, ask):
    message = tell.queues.send("tasks", NewMessage("x")).id
    tell.queues.delete("tasks", tell.receive().receipt_handle)
    assert only(ask(message)).text == "it was done and deleted at receive 1 on tasks"
    filtered = tell.queues.send("tasks", NewMessage("x")).id
    journal.record("message.filtered", queue="tasks", message_id=filtered)
    tell.queues.delete_by_id("tasks", filtered)
    journal.record("message.filtered", queue="tasks", message_id=filtered)
    assert "filter does not match it" in only(ask(filtered)).text
    purged = tell.queues.send("tasks", NewMessage("x")).id
    tell.queues.purge("tasks")
    assert only(ask(purged)).code == "gone"


def test_a_redriven_message_is_followed(tell, ask, mapping):
    tell.request()
    message = tell.publish("task-aaaa")
    for _ in range(2):
        tell.end(tell.receive(), delete=False)
        tell.clock.now += 31
    tell.queues.receive("tasks")
    new = tell.queues.redrive_one("dead", None, message_id=message).id
    assert only(ask(message)).text == f"redriven to tasks as message {new}"
    assert only(ask("task-aaaa", [mapping])).code == "next"


def test_a_request_that_runs(tell, ask):
    tell.request(status=None)
    tell.clock.now += 3
    reason = only(ask("request-0", pools=[("Api", IDLE)]))
    assert reason.text == "Api has been running it for 3.0 s; its timeout ends it after 30 s"
    assert reason.state == "running"


def test_a_request_that_waits_for_an_environment(tell, journal, ask):
    journal.record("request.received", request_id="request-0", method="GET", path="/")
    full = PoolState(1, 1, 1, 0, 0, 1)
    assert only(ask("request-0", pools=[("Api", full)])).code == "concurrency"
    assert only(ask("request-0", pools=[("Api", PoolState(1, 1, 0, 0, 1, 1))])).code == "cold-start"
    assert only(ask("request-0")).code == "no-invocation"


def test_a_request_whose_tasks_wait(tell, ask, mapping):
    tell.request()
    tell.done()
    tell.publish("task-aaaa", delay=60)
    answer = ask("request-0", [mapping])
    assert [reason.code for reason in answer.reasons] == ["answered", "delayed"]
    assert answer.reasons[1].text.startswith("app.send [task-aaa]: delayed on tasks")
    assert answer.state == "waiting"


def test_inline_work_after_the_response(tell, ask):
    tell.request()
    assert only(ask("request-0")).code == "inline"


def test_a_chord_that_waits_and_one_that_cannot(tell, ask):
    tell.request()
    callback = {"task": "app.report", "args": [], "kwargs": {}, "options": {"task_id": "task-cccc"}}
    for task in ("task-aaaa", "task-bbbb"):
        tell.publish(task, chord=callback)
    received = tell.receive()
    tell.task("started", "task-aaaa", received)
    tell.task("succeeded", "task-aaaa", received)
    tell.end(received, delete=True)
    waits = ask("task-aaaa").reasons[-1]
    assert waits.text == "its chord's callback app.report waits for 1 of 2 tasks"
    received = tell.receive()
    tell.task("started", "task-bbbb", received)
    tell.task("failed", "task-bbbb", received)
    tell.end(received, delete=True)
    assert ask("task-aaaa").reasons[-1].code == "chord-failed"


def test_its_environment_was_killed(tell, ask, mapping):
    tell.request()
    message = tell.publish("task-aaaa")
    tell.task("started", "task-aaaa", tell.receive(), attempt=1)
    tell.killed()
    for identity in (message, "task-aaaa"):
        reason = only(ask(identity, [mapping]))
        assert reason.state == "waiting"
        assert "since Worker failed: the environment exited (signal: killed)" in reason.text


def test_a_fault_lost_the_function_s_answer(tell, journal, ask, mapping):
    message = tell.queues.send("tasks", NewMessage("x")).id
    tell.end(tell.receive(), delete=False)
    journal.record("fault.injected", function="Worker", request_id=tell.batch,
                   name="environment.killed-after-task")  # fmt: skip
    assert "since Worker failed: it was killed" in only(ask(message, [mapping])).text


def test_an_invocation_that_was_killed_does_not_run(tell, journal, ask):
    journal.record("invocation.started", function="Worker", request_id="direct-00", payload=b"{}")
    tell.batch = "direct-00"
    tell.killed()
    answer = ask("direct-00")
    assert answer.state == "over"
    assert only(answer).text == (
        "the invocation of Worker failed: the environment exited (signal: killed)"
    )
