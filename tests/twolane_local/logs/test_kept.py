from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

from twolane_local.aws.logs.groups import Groups, KeptGroups

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ..conftest import HandClock  # noqa: TID252


def run(folder: Path, clock: HandClock, script: Callable[[Groups], None]) -> list[str]:
    """One run of an emulator; returns its reports."""
    reports: list[str] = []

    async def main() -> None:
        groups = Groups(clock.time)
        kept = KeptGroups(groups, folder, reports.append)
        kept.start()
        script(groups)
        await kept.close()

    asyncio.run(main())
    return reports


def messages(groups: Groups) -> dict[str, list[str]]:
    return {group.name: [event.message for event in group.since(0)] for group in groups}


def test_the_next_run_has_the_events(tmp_path: Path, clock: HandClock) -> None:
    def first(groups: Groups) -> None:
        groups.environment("/g", "s").put(b"/code/one", lambda text: text[5:])
        groups.group("/g").put(groups.group("/g").stream("t"), b"two \xf0\x9f\x98\x80", 5)

    seen: list[object] = []

    def second(groups: Groups) -> None:
        group = groups.group("/g")
        seen.append((messages(groups), group.streams["t"].last, group.created, group.since(0)))
        groups.environment("/g", "s").put(b"three", lambda text: text)

    def third(groups: Groups) -> None:
        seen.append(messages(groups))

    run(tmp_path, clock, first)
    created = int(clock.now * 1000)
    clock.now += 60
    run(tmp_path, clock, second)
    run(tmp_path, clock, third)
    (found, last, began, events), again = seen  # type: ignore[misc]
    assert found == {"/g": ["/one", "two 😀"]}
    assert (last, began) == (5, created)
    assert [event.number for event in events] == [1, 2]
    assert again == {"/g": ["/one", "two 😀", "three"]}


def test_what_was_deleted_stays_deleted(tmp_path: Path, clock: HandClock) -> None:
    def first(groups: Groups) -> None:
        for name in ("/g", "/h"):
            for stream in "st":
                groups.environment(name, stream).put(stream.encode(), lambda text: text)

    def second(groups: Groups) -> None:
        groups.delete("/g", "s")
        groups.delete("/h")
        groups.environment("/h", "new").put(b"new", lambda text: text)

    seen: list[dict[str, list[str]]] = []
    run(tmp_path, clock, first)
    run(tmp_path, clock, second)
    run(tmp_path, clock, lambda groups: seen.append(messages(groups)))
    assert seen == [{"/g": ["t"], "/h": ["new"]}]


def test_a_damaged_line_is_skipped(tmp_path: Path, clock: HandClock) -> None:
    run(tmp_path, clock, lambda g: g.environment("/g", "s").put(b"one", lambda text: text))
    with (tmp_path / "logs.jsonl").open("a") as file:
        file.write(json.dumps({"group": "/g"}) + '\n[1]\n{"group": "/g", "at')
    seen: list[dict[str, list[str]]] = []
    run(tmp_path, clock, lambda groups: seen.append(messages(groups)))
    assert seen == [{"/g": ["one"]}]


def test_a_full_disk_is_reported_once(tmp_path: Path, clock: HandClock) -> None:
    def script(groups: Groups) -> None:
        (tmp_path / "logs.jsonl").mkdir()
        groups.environment("/g", "s").put(b"one", lambda text: text)

    (report,) = run(tmp_path, clock, script)
    assert "logs.jsonl cannot be written" in report
