from __future__ import annotations

from twolane_local.journal.task_counts import STEP_S, STEPS, throughput


def test_each_step_counts_what_fell_into_it(journal, clock):
    start = clock.now
    for seconds, kind in ((0, "message.sent"), (1, "message.sent"), (6, "message.received"),
                          (7, "message.deleted"), (8, "log")):  # fmt: skip
        clock.now = start + seconds
        journal.record(kind, queue="q")
    found = throughput(reversed(list(journal)), clock.now)["q"]
    assert len(found["sent"]) == STEPS
    assert (found["sent"][-2:], found["received"][-1], found["deleted"][-1]) == ([2, 0], 1, 1)
    assert found["from"] + STEP_S * STEPS > clock.now


def test_what_is_too_old_is_left_out(journal, clock):
    journal.record("message.sent", queue="q")
    assert throughput(reversed(list(journal)), clock.now + 3600) == {}
