from __future__ import annotations

import resource
from contextlib import contextmanager

import pytest

from twolane_local.journal import files as json_log
from twolane_local.journal.files import JsonLog, PersistenceError, StateLog


@contextmanager
def no_file_above(size):
    """Act like a full disk: the write that exceeds it is cut, the next one fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def reopened(log, tmp_path):
    log.close()
    return JsonLog(tmp_path, "x.jsonl")


def test_lines_come_back_in_order(tmp_path):
    log = JsonLog(tmp_path / "new" / "directory", "x.jsonl")
    assert list(log.lines()) == []
    log.rewrite([{"a": 1}])
    log.append({"b": "ü\n"})
    log.append({"c": None})
    assert list(log.lines()) == [{"a": 1}, {"b": "ü\n"}, {"c": None}]
    log.rewrite([{"d": 1}])
    log.append({"e": 1})
    assert list(log.lines()) == [{"d": 1}, {"e": 1}]
    log.close()


def test_half_a_line_was_never_acknowledged(tmp_path):
    log = JsonLog(tmp_path, "x.jsonl")
    log.rewrite([{"a": 1}])
    with (tmp_path / "x.jsonl").open("ab") as file:
        file.write(b'{"b"')
    log = reopened(log, tmp_path)
    assert list(log.lines()) == [{"a": 1}]
    log.close()


def test_a_damaged_line_is_named_with_the_remedy(tmp_path):
    (tmp_path / "x.jsonl").write_bytes(b'{"a":1}\ngarbage\n{"b":1}\n')
    log = JsonLog(tmp_path, "x.jsonl")
    with pytest.raises(PersistenceError, match=r"x\.jsonl:2 is damaged; repair that line, or"):
        list(log.lines())
    log.close()


def test_one_process_at_a_time(tmp_path):
    log = JsonLog(tmp_path, "x.jsonl")
    with pytest.raises(PersistenceError, match="in use by another emulator"):
        JsonLog(tmp_path, "x.jsonl")
    JsonLog(tmp_path, "y.jsonl").close()
    reopened(log, tmp_path).close()


def test_a_log_that_has_grown_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(json_log, "SMALLEST", 100)
    log = JsonLog(tmp_path, "x.jsonl")
    log.rewrite({"line": "x" * 20} for _ in range(10))
    began = (tmp_path / "x.jsonl").stat().st_size
    while not log.append({"more": "x" * 20}):
        pass
    assert 4 * began < (tmp_path / "x.jsonl").stat().st_size < 5 * began
    log.rewrite([])
    assert not log.append({"few": 1})
    log.close()


def test_nobody_else_may_read_it(tmp_path):
    log = JsonLog(tmp_path, "x.jsonl")
    log.rewrite([{"a": 1}])
    assert (tmp_path / "x.jsonl").stat().st_mode & 0o077 == 0
    log.close()


def test_a_line_for_which_there_is_no_room_leaves_nothing_behind(tmp_path):
    log = JsonLog(tmp_path, "x.jsonl")
    log.rewrite([{"a": 1}])
    with no_file_above(20), pytest.raises(PersistenceError, match=r"x\.jsonl cannot be written"):
        log.append({"b": "x" * 100})
    log.append({"c": 1})
    assert list(log.lines()) == [{"a": 1}, {"c": 1}]
    log.close()


def test_a_new_log_for_which_there_is_no_room_leaves_the_old_one(tmp_path):
    log = JsonLog(tmp_path, "x.jsonl")
    log.rewrite([{"a": 1}])
    with no_file_above(20), pytest.raises(PersistenceError):
        log.rewrite({"b": number} for number in range(10))
    log.append({"c": 1})
    assert list(log.lines()) == [{"a": 1}, {"c": 1}]
    log.close()


def test_what_may_wait_is_kept_once_there_is_room(tmp_path):
    there = [{"a": 1}]
    log = JsonLog(tmp_path, "x.jsonl")
    state_log = StateLog(log, lambda: there)
    state_log.rewrite()
    with no_file_above(5):
        there.append({"b": 1})
        state_log.append_later({"b": 1})
        with pytest.raises(PersistenceError):
            state_log.append({"c": 1})
    assert list(log.lines()) == [{"a": 1}]
    there.append({"d": 1})
    state_log.append({"d": 1})
    assert list(log.lines()) == [{"a": 1}, {"b": 1}, {"d": 1}]
    log.close()
