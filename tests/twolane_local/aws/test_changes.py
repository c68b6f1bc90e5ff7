"""What the API has made, beside what the template declares."""

from __future__ import annotations

import asyncio
import stat
from typing import TYPE_CHECKING

import pytest

from twolane_local.aws.changes import Changes, ChangesLog

if TYPE_CHECKING:
    from pathlib import Path

DECLARED = {"function": {"a": {"Timeout": 3}, "b": {"Timeout": 3, "url": "http://127.0.0.1:4566"}}}


@pytest.fixture
def changes() -> Changes:
    changes = Changes()
    changes.declare(DECLARED)
    return changes


async def put(changes: Changes, key: str, timeout: int, kind: str = "function") -> None:
    async with changes.changing():
        changes.put(kind, key, {"Timeout": timeout})


async def delete(changes: Changes, key: str) -> None:
    async with changes.changing():
        changes.delete("function", key)


def test_both_are_seen(changes: Changes) -> None:
    asyncio.run(put(changes, "c", 5))
    asyncio.run(put(changes, "c", 6, kind="alias"))
    assert list(changes.all("function")) == ["a", "b", "c"]
    assert changes.get("function", "c") == {"Timeout": 5}
    assert changes.get("alias", "c") == {"Timeout": 6}
    assert changes.get("alias", "a") is None
    assert changes.is_declared("function", "a")
    assert not changes.is_declared("function", "c")


def test_a_change_holds_until_the_template_changes_the_same_resource(changes: Changes) -> None:
    asyncio.run(put(changes, "a", 9))
    asyncio.run(delete(changes, "b"))
    asyncio.run(put(changes, "c", 9))
    moved = {**DECLARED["function"]["b"], "url": "http://127.0.0.1:4999"}  # another start
    assert changes.declare({"function": {"a": {"Timeout": 3}, "b": moved}}) == []
    assert changes.all("function") == {"a": {"Timeout": 9}, "c": {"Timeout": 9}}
    again = changes.declare({"function": {"a": {"Timeout": 4}, "b": moved}})
    assert again == ["function a"]
    assert changes.all("function") == {"a": {"Timeout": 4}, "c": {"Timeout": 9}}
    # What the template drops is gone, what it takes over is the template's.
    assert changes.declare({"function": {"c": {"Timeout": 1}}}) == ["function b", "function c"]
    assert changes.all("function") == {"c": {"Timeout": 1}}


def test_a_deletion_is_undone_by_the_template_only(changes: Changes) -> None:
    asyncio.run(delete(changes, "a"))
    assert changes.get("function", "a") is None
    assert list(changes.all("function")) == ["b"]
    asyncio.run(put(changes, "a", 7))  # created anew by the API
    assert changes.get("function", "a") == {"Timeout": 7}


def test_what_was_deleted_with_its_owner_comes_back_with_it() -> None:
    changes = Changes()
    aliases = {"alias": {"a:live": {"FunctionVersion": "1"}, "b:live": {"FunctionVersion": "1"}}}
    changes.declare({**DECLARED, **aliases})

    async def delete_all() -> None:
        async with changes.changing():
            changes.delete("function", "a")
            changes.delete("alias", "a:live")
            changes.delete("alias", "b:live")

    asyncio.run(delete_all())
    changes.declare({"function": {"a": {"Timeout": 4}, "b": DECLARED["function"]["b"]}, **aliases})
    assert list(changes.all("function")) == ["a", "b"]
    assert list(changes.all("alias")) == ["a:live"]


def test_nothing_is_changed_by_a_call_that_fails(changes: Changes) -> None:
    applied: list[list[str]] = []

    async def apply() -> None:
        applied.append(list(changes.all("function")))
        if "c" in applied[-1]:
            raise OSError("no room")

    async def refused() -> None:
        async with changes.changing():
            changes.put("function", "d", {})
            raise ValueError("refused")

    changes.apply = apply
    with pytest.raises(ValueError, match="refused"):
        asyncio.run(refused())
    assert applied == []
    with pytest.raises(OSError, match="no room"):
        asyncio.run(put(changes, "c", 5))
    assert applied == [["a", "b", "c"], ["a", "b"]]
    assert list(changes.all("function")) == ["a", "b"]


def test_changes_outlive_the_process(tmp_path: Path) -> None:
    log = ChangesLog(tmp_path)
    changes = Changes(log)
    changes.declare(DECLARED)
    asyncio.run(put(changes, "a", 9))
    asyncio.run(put(changes, "c", 5))
    asyncio.run(put(changes, "gone", 5))
    asyncio.run(delete(changes, "gone"))
    asyncio.run(delete(changes, "b"))
    log.close()
    assert stat.S_IMODE((tmp_path / "changes.jsonl").stat().st_mode) == 0o600
    log = ChangesLog(tmp_path)
    again = Changes(log)
    again.declare(DECLARED)
    assert again.all("function") == {"a": {"Timeout": 9}, "c": {"Timeout": 5}}
    log.close()
