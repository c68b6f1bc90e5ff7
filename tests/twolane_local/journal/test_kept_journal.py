from __future__ import annotations

import asyncio
import json
import resource

from twolane_local.clock import SystemClock
from twolane_local.journal import Journal, files
from twolane_local.journal.files import KeptJournal


def session(folder, work, **more):
    """One start and stop of an emulator that keeps its journal; the journal at its end."""
    journal = Journal(SystemClock())
    journal.record("log", line="before the console")

    async def main():
        kept = KeptJournal(journal, folder, **more)
        kept.start()
        work(journal)
        await kept.close()

    asyncio.run(main())
    return journal


def lines(journal):
    return [event.data.get("line") for event in journal]


def test_what_was_before_a_restart_is_there_after_it(tmp_path):
    first = session(tmp_path, lambda journal: journal.record("log", line="one", task_id="t"))
    assert lines(first) == ["before the console", "one"]
    second = session(tmp_path, lambda journal: journal.record("log", line="two"))
    assert lines(second) == ["before the console", "one", "before the console", "two"]
    assert [event.seq for event in second] == [1, 2, 3, 4]
    assert list(second)[1].task_id == "t"
    third = session(tmp_path, lambda journal: None)
    assert len(third) == 5


def test_secrets_do_not_reach_the_disk(tmp_path):
    session(tmp_path, lambda journal: journal.record(
        "request.received", headers=(("authorization", "hunter2"),), body=b'{"password":"hunter2"}',
    ))  # fmt: skip
    text = (tmp_path / "journal.jsonl").read_text()
    assert "authorization" in text
    assert "hunter2" not in text


def test_its_size_is_bounded(tmp_path):
    def work(journal):
        journal.record("log", line="x" * 500)

    for _ in range(12):
        session(tmp_path, work, limit=2_000)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 5_000


def test_a_line_that_a_kill_cut_off_is_left_out(tmp_path):
    session(tmp_path, lambda journal: journal.record("log", line="whole"))
    path = tmp_path / "journal.jsonl"
    path.write_text(path.read_text() + '{"seq": 3, "kind": "lo')
    assert "whole" in lines(session(tmp_path, lambda journal: None))
    assert json.loads(path.read_text().splitlines()[0])["kind"] == "log"


def test_a_full_disk_is_said_and_ends_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "EVERY_S", 0.01)
    journal = Journal(SystemClock())
    journal.record("log", line="one")

    async def main():
        kept = KeptJournal(journal, tmp_path)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1, hard))
        try:
            kept.start()
            async with asyncio.timeout(10):
                while len(journal) < 2:
                    await asyncio.sleep(0)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        await kept.close()

    asyncio.run(main())
    assert "cannot be written (File too large)" in lines(journal)[-1]
    assert '"one"' in (tmp_path / "journal.jsonl").read_text()
