"""Watches source files and the template for changes."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from twolane_local.clock import Clock

#: Folders that never hold a function's own source.
_SKIPPED = frozenset({"__pycache__", ".git", ".venv", "node_modules", ".aws-sam", ".mypy_cache"})
_EVERY_S = 0.5

#: Modification time and size of each file.
Stamps = dict[str, tuple[int, int]]


def stamps(paths: Iterable[Path]) -> Stamps:
    """Return the stamps of the given files, and of all ``.py`` files below the given folders."""
    found: Stamps = {}
    for path in paths:
        if path.is_dir():
            for folder, folders, files in os.walk(path):
                folders[:] = [name for name in folders if name not in _SKIPPED]
                for name in files:
                    if name.endswith(".py"):
                        _stamp(os.path.join(folder, name), found)  # noqa: PTH118 (speed)
        else:
            _stamp(str(path), found)
    return found


def _stamp(path: str, found: Stamps) -> None:
    try:
        status = os.stat(path)  # noqa: PTH116 (speed)
    except OSError:
        return  # deleted after it was listed; the next check sees that
    found[path] = (status.st_mtime_ns, status.st_size)


async def watch(
    before: Stamps,
    paths: Callable[[], Iterable[Path]],
    changed: Callable[[set[str]], Awaitable[None]],
    clock: Clock,
) -> None:
    """Call ``changed`` with changed, added or deleted files, once an editor has written them."""
    while True:
        await clock.sleep(_EVERY_S)
        now = await asyncio.to_thread(stamps, list(paths()))
        if now == before:
            continue
        await clock.sleep(_EVERY_S / 5)
        after = await asyncio.to_thread(stamps, list(paths()))
        different = {
            path for path in before.keys() | after.keys() if before.get(path) != after.get(path)
        }
        before = after
        if different:
            await changed(different)
