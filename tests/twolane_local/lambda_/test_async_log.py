from __future__ import annotations

from dataclasses import replace

import pytest

from twolane_local.aws.lambda_.asynchronous import AsyncEvent, EventLog
from twolane_local.journal import files as json_log
from twolane_local.journal.files import PersistenceError

EVENT = AsyncEvent("f", "r1", b'{"n":"\xc3\xbc"}', '{"custom":{}}', 1_767_225_600.5)


def reopened(log, tmp_path):
    log.close()
    return EventLog(tmp_path)


def test_what_has_not_ended_comes_back(tmp_path):
    log = EventLog(tmp_path)
    other = replace(EVENT, request_id="r2")
    log.accepted(EVENT)
    log.accepted(other)
    log.tried(replace(EVENT, tries=2))
    log = reopened(log, tmp_path)
    assert log.pending() == [replace(EVENT, tries=2), other]
    log.ended("r1")
    log = reopened(log, tmp_path)
    assert log.pending() == [other]
    log.ended("r2")
    log = reopened(log, tmp_path)
    assert log.pending() == []
    log.close()


def test_one_emulator_at_a_time(tmp_path):
    log = EventLog(tmp_path)
    with pytest.raises(PersistenceError):
        EventLog(tmp_path)
    log.close()


def test_the_log_stays_as_small_as_what_is_open(tmp_path, monkeypatch):
    monkeypatch.setattr(json_log, "SMALLEST", 5_000)
    log = EventLog(tmp_path)
    for number in range(500):
        log.accepted(replace(EVENT, request_id=str(number)))
        log.ended(str(number))
    assert (tmp_path / "events.jsonl").stat().st_size < 6_000
    log.close()
