from __future__ import annotations

from twolane_local.cli.queues import queues_table

TASKS = {
    "name": "tasks", "visible": 3, "inFlight": 1, "delayed": 0, "oldestAgeSeconds": 75.2,
    "deadLetterQueue": "dead", "maxReceiveCount": 5, "deadLetterOf": [],
    "mappings": [{"function": "Worker", "enabled": True}, {"function": "Old", "enabled": False}],
}  # fmt: skip
DEAD = {"name": "dead", "visible": 0, "inFlight": 0, "delayed": 0, "deadLetterOf": ["tasks"],
        "mappings": []}  # fmt: skip
ALONE = {"name": "alone", "visible": 2, "mappings": [], "deadLetterOf": []}


def test_a_line_for_each_queue_with_who_reads_it() -> None:
    assert queues_table([TASKS, DEAD, ALONE]).splitlines() == [
        "QUEUE  VISIBLE  IN FLIGHT  DELAYED  OLDEST      READ BY                 DEAD LETTERS",
        "tasks        3          1        0  1 min 15 s  Worker, Old (disabled)  dead after 5",
        "dead         0          0        0                                      of tasks",
        "alone        2                                  nothing",
    ]


def test_noisy_message_groups_are_named_below() -> None:
    noisy = {**ALONE, "noisyGroups": {"customer-1": 99_970}}
    assert queues_table([noisy]).splitlines()[2:] == [
        "alone: message group customer-1 is noisy; quiet groups' messages come before its 99,970"
    ]


def test_without_a_queue_it_says_so() -> None:
    assert queues_table([]) == "there is no queue"
