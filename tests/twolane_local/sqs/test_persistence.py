from __future__ import annotations

import json
import os
import random
import resource
import signal
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from twolane_local.aws.sqs.errors import ServiceUnavailableError
from twolane_local.aws.sqs.persistence import FILE, QueueLog
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.journal import Journal
from twolane_local.journal.files import PersistenceError
from twolane_local.model.message import AttributeValue

FIFO = {"FifoQueue": "true", "ContentBasedDeduplication": "true"}


@pytest.fixture
def opened(tmp_path, clock):
    """Open the queues as a new process would; the former process has ended by then."""
    logs, rng = [], random.Random(1)

    def opened():
        for log in logs:
            log.close()
        logs[:] = [QueueLog(tmp_path)]
        queues = QueueService(clock, Journal(clock), rng=rng)
        logs[0].attach(queues)
        return queues

    yield opened
    for log in logs:
        log.close()


def shown(queues):
    """Everything that can be seen of the queues."""
    return {
        name: (
            queues.get(name).attributes,
            queues.get(name).tags,
            queues.get(name).created_at,
            {state: queues.refreshed(name).count(state) for state in ("visible", "delayed",
                                                                   "in flight")},
            [
                (entry.message, entry.receive_count, entry.receipt, entry.first_received_at)
                for entry in sorted(queues.refreshed(name), key=lambda entry: entry.position)
            ],
        )
        for name in queues.names()
    }  # fmt: skip


def test_queues_messages_and_their_places_come_back(opened, clock):
    queues = opened()
    queues.create("q", {"VisibilityTimeout": "60"}, {"team": "a"})
    queues.create("empty")
    queues.create("gone")
    queues.delete_queue("gone")
    attributes = {
        "s": AttributeValue("String", "ü"),
        "b": AttributeValue("Binary", None, b"\0\xff"),
    }
    queues.send("q", NewMessage("grüße\r\n", attributes=attributes, trace_header="Root=1"))
    queues.send("q", NewMessage("deleted"))
    queues.send("q", NewMessage("delayed", delay_s=600))
    first, second = queues.receive("q", 2)
    queues.delete("q", second.receipt_handle)
    queues.configure("empty", {"DelaySeconds": "7"})
    clock.now += 10
    before = shown(queues)
    again = opened()
    assert shown(again) == before
    clock.now += 49.9
    assert again.receive("q") == [], "still in flight"
    assert again.delete("q", first.receipt_handle), "by the handle from before"
    clock.now += 600
    assert again.receive("q")[0].message.body == "delayed"


def test_a_message_whose_visibility_ended_meanwhile_is_visible(opened, clock):
    queues = opened()
    queues.create("q")
    queues.send("q", NewMessage("x"))
    queues.receive("q")
    clock.now += 3_600
    assert opened().receive("q")[0].receive_count == 2


def test_a_purge_and_a_move_come_back(opened, clock):
    queues = opened()
    queues.create("dead")
    policy = json.dumps({"deadLetterTargetArn": queues.arn("dead"), "maxReceiveCount": 1})
    queues.create("q", {"RedrivePolicy": policy})
    queues.send("q", NewMessage("poison"))
    queues.receive("q")
    clock.now += 30
    queues.receive("q")
    assert [len(queues.refreshed(name)) for name in ("q", "dead")] == [0, 1]
    queues = opened()
    assert [len(queues.refreshed(name)) for name in ("q", "dead")] == [0, 1]
    queues.redrive_one("dead", None)
    queues = opened()
    assert [len(queues.refreshed(name)) for name in ("q", "dead")] == [1, 0]
    queues.purge("q")
    assert len(opened().refreshed("q")) == 0


def test_fifo_groups_sequence_and_deduplication_come_back(opened, clock):
    queues = opened()
    queues.create("q.fifo", FIFO)
    sent = [queues.send("q.fifo", NewMessage(body, group_id="g")) for body in ("1", "2", "3")]
    first = queues.receive("q.fifo")[0]
    queues = opened()
    assert queues.receive("q.fifo") == [], "the group is still locked"
    assert queues.send("q.fifo", NewMessage("2", group_id="g")).id == sent[1].id
    queues.delete("q.fifo", first.receipt_handle)
    queues = opened()
    assert queues.send("q.fifo", NewMessage("1", group_id="g")).id == sent[0].id, (
        "a deleted message is remembered too"
    )
    assert [one.message.body for one in queues.receive("q.fifo", 10)] == ["2", "3"]
    assert queues.send("q.fifo", NewMessage("4", group_id="g")).sequence > sent[2].sequence
    clock.now += 300
    assert opened().send("q.fifo", NewMessage("2", group_id="g")).id != sent[1].id


def test_tenants_of_a_fair_queue_come_back(opened):
    queues = opened()
    queues.create("q", {"VisibilityTimeout": "3600"})
    for group in ["a"] * 40 + ["b"]:
        queues.send("q", NewMessage("x", group_id=group))
    for _ in range(3):
        queues.receive("q", 10)
    queues = opened()
    assert queues.noisy_groups("q") == {"a": 10}
    assert [one.message.group_id for one in queues.receive("q", 2)] == ["b", "a"]


def test_any_history_comes_back(opened, clock):
    rng = random.Random(9)
    queues = opened()
    queues.create("q")
    held = []
    for step in range(600):
        match rng.randrange(5):
            case 0 | 1:
                queues.send("q", NewMessage(str(step), delay_s=rng.choice([0, 0, 20])))
            case 2:
                held += queues.receive("q", rng.randint(1, 3))
            case 3:
                clock.now += rng.random() * 5
            case _ if held:
                queues.delete("q", held.pop(rng.randrange(len(held))).receipt_handle)
        if step % 50 == 0:
            before = shown(queues)
            queues = opened()
            assert shown(queues) == before


def test_the_log_is_written_anew_when_it_has_grown(opened, tmp_path, monkeypatch):
    monkeypatch.setattr("twolane_local.journal.files.SMALLEST", 20_000)
    queues = opened()
    queues.create("q")
    for _ in range(500):
        queues.send("q", NewMessage("x" * 100))
        queues.delete("q", queues.receive("q")[0].receipt_handle)
    queues.send("q", NewMessage("last"))
    assert (tmp_path / FILE).stat().st_size < 21_000
    assert opened().receive("q")[0].message.body == "last"


def test_half_a_line_at_the_end_is_no_message(opened, tmp_path):
    queues = opened()
    queues.create("q")
    queues.send("q", NewMessage("x"))
    with (tmp_path / FILE).open("ab") as file:
        file.write(b'{"do":"put","queue":"q","mess')
    assert len(opened().refreshed("q")) == 1


def test_a_damaged_line_is_named(opened, tmp_path):
    queues = opened()
    queues.create("q")
    with (tmp_path / FILE).open("ab") as file:
        file.write(b"garbage\n")
    queues.send("q", NewMessage("x"))
    with pytest.raises(PersistenceError, match=r"queues\.jsonl:2 is damaged"):
        opened()


def test_one_directory_serves_one_process(opened, tmp_path):
    opened()
    with pytest.raises(PersistenceError, match="in use by another"):
        QueueLog(tmp_path)


CHILD = """
import sys
from pathlib import Path
from twolane_local.clock import SystemClock
from twolane_local.journal import Journal
from twolane_local.aws.sqs.service import NewMessage, QueueService
from twolane_local.aws.sqs.errors import ServiceUnavailableError
from twolane_local.aws.sqs.persistence import QueueLog
clock = SystemClock()
queues = QueueService(clock, Journal(clock))
QueueLog(Path(sys.argv[1])).attach(queues)
queues.ensure("q")
number = 0
while True:
    message = queues.send("q", NewMessage("x" * 2000))
    print("sent", message.id, flush=True)
    number += 1
    if number % 3 == 0:
        received = queues.receive("q")[0]
        print("deleting", received.message.id, flush=True)
        queues.delete("q", received.receipt_handle)
        print("deleted", received.message.id, flush=True)
"""


def test_a_kill_at_any_moment_loses_no_acknowledged_message(tmp_path, clock):
    told_ids = {"sent": set(), "deleting": set(), "deleted": set()}
    for lines in (7, 100, 331):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        assert child.stdout is not None
        told = [child.stdout.readline() for _ in range(lines)]
        child.send_signal(signal.SIGKILL)
        told += child.stdout.readlines()
        child.wait()
        child.stdout.close()
        for word, message_id in (line.split() for line in told if line.endswith(b"\n")):
            told_ids[word.decode()].add(message_id.decode())
    clock.now = Path(tmp_path / FILE).stat().st_mtime
    log = QueueLog(tmp_path)
    with closing(log):
        queues = QueueService(clock, Journal(clock))
        log.attach(queues)
        left = {entry.message.id for entry in queues.refreshed("q")}
    assert len(told_ids["sent"]) > 200
    assert told_ids["sent"] - told_ids["deleting"] <= left, "every acknowledged send is there"
    assert not told_ids["deleted"] & left, "and no acknowledged delete came back"


def test_on_a_full_disk_nothing_new_is_taken_and_what_is_there_goes_on(opened, tmp_path):
    queues = opened()
    queues.ensure("q", {"VisibilityTimeout": "30"})
    for number in range(3):
        queues.send("q", NewMessage(str(number)))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / FILE).stat().st_size + 10, hard))
    try:
        with pytest.raises(ServiceUnavailableError, match="Free some space"):
            queues.send("q", NewMessage("refused"))
        first, second = queues.receive("q", 2)
        queues.delete("q", first.receipt_handle)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    queues.delete("q", second.receipt_handle)
    queues.send("q", NewMessage("after"))
    there = shown(queues)
    assert [message.body for message, *_ in there["q"][4]] == ["2", "after"]
    assert shown(opened()) == there


def test_what_waits_longest_comes_first_after_a_restart_too(opened, clock):
    queues = opened()
    queues.create("q")
    queues.create("q.fifo", FIFO)
    for body in ("a1", "b1", "c1", "b2"):
        queues.send("q", NewMessage(body))
        queues.send("q.fifo", NewMessage(body, group_id=body[0]))
    clock.now += 1
    for name in ("q", "q.fifo"):
        queues.receive(name, visibility_s=10)
    clock.now += 1
    queues.receive("q.fifo", visibility_s=0)
    queues = opened()
    clock.now += 10
    assert [one.message.body for one in queues.receive("q", 10)] == ["b1", "c1", "b2", "a1"]
    assert [one.message.body for one in queues.receive("q.fifo", 10)] == ["c1", "a1", "b1", "b2"]


def test_only_messages_behind_one_in_flight_wait_after_a_restart(opened, clock):
    queues = opened()
    queues.create("q.fifo", FIFO)
    for body in ("1", "2", "3"):
        queues.send("q.fifo", NewMessage(body, group_id="g"))
    one, two = queues.receive("q.fifo", 2, visibility_s=60)
    queues.change_visibility("q.fifo", one.receipt_handle, 0)
    queues = opened()
    assert [message.message.body for message in queues.receive("q.fifo", 10)] == ["1"]
    queues.delete("q.fifo", two.receipt_handle)
    clock.now += 30
    assert [message.message.body for message in queues.receive("q.fifo", 10)] == ["1", "3"]


def test_a_visibility_that_an_expired_handle_changed_comes_back(opened, clock):
    queues = opened()
    queues.create("q")
    queues.send("q", NewMessage("x"))
    handle = queues.receive("q")[0].receipt_handle
    clock.now += 30
    queues.change_visibility("q", handle, 60)
    queues = opened()
    assert queues.receive("q") == []
    clock.now += 60
    assert len(queues.receive("q")) == 1


def test_a_purge_forgets_deduplication_ids_for_good(opened):
    queues = opened()
    queues.create("q.fifo", FIFO)
    queues.send("q.fifo", NewMessage("x", group_id="g"))
    queues.purge("q.fifo")
    queues = opened()
    queues.send("q.fifo", NewMessage("x", group_id="g"))
    assert len(queues.receive("q.fifo")) == 1


def test_queues_of_other_regions_and_accounts_come_back(opened):
    queues = opened()
    far = queues.name_in("eu-west-1", "111122223333", "q")
    queues.create("q")
    queues.create(far)
    queues.send(far, NewMessage("far"))
    queues = opened()
    assert queues.get(far).arn == "arn:aws:sqs:eu-west-1:111122223333:q"
    assert [one.message.body for one in queues.receive(far)] == ["far"]
    assert queues.receive("q") == []
