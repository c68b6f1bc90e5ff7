from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from twolane_local.clock import SystemClock
from twolane_local.emulator.reload import stamps, watch

if TYPE_CHECKING:
    from pathlib import Path


def test_stamps_are_of_python_files_and_of_files_named(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "b.txt").write_text("1")
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "c.py").write_text("1")
    named = tmp_path / "template.yaml"
    named.write_text("1")
    assert set(stamps([tmp_path, named, tmp_path / "gone"])) == {
        str(tmp_path / "a.py"),
        str(named),
    }


@pytest.mark.parametrize("how", ["changed", "new", "gone"])
def test_a_change_is_told_once(tmp_path: Path, how: str) -> None:
    file = tmp_path / "a.py"
    if how != "new":
        file.write_text("1")
    changes: list[set[str]] = []
    looked: asyncio.Event

    async def main() -> None:
        nonlocal looked
        seen, looked = asyncio.Event(), asyncio.Event()

        async def changed(paths: set[str]) -> None:
            changes.append(paths)
            seen.set()

        before = stamps([tmp_path])
        watching = asyncio.create_task(watch(before, lambda: [tmp_path], changed, Quick()))
        if how == "gone":
            file.unlink()
        else:
            file.write_text("something else")
        await asyncio.wait_for(seen.wait(), 10)
        for _ in range(2):  # rounds that see nothing new
            looked.clear()
            await asyncio.wait_for(looked.wait(), 10)
        watching.cancel()

    class Quick(SystemClock):
        async def sleep(self, seconds: float) -> None:
            looked.set()
            await asyncio.sleep(seconds / 50)

    asyncio.run(main())
    assert changes == [{str(file)}]
