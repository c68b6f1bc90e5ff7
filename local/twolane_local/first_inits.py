"""Sees that each function of a large stack loads, one after the other, while the stack is up.

A small stack has an environment of each function ready when it is up. In a large one that would be
most of the start, and most of the memory, for functions that may never be invoked: there an
environment begins with the first invocation, as on AWS. What does not load is named all the same.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from twolane_local.environments.report import import_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twolane_local.environments.process import Launcher
    from twolane_local.functions import Functions
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec

#: With more functions than these, ``twolane up`` does not wait for an environment of each.
FEW = 8


class FirstInits:
    """One check at a time; each problem is a line in the journal.

    ``failed`` hears of an error that ends a check.
    """

    def __init__(
        self,
        functions: Functions,
        launcher: Launcher,
        journal: Journal,
        *,
        failed: Callable[[BaseException], None],
    ) -> None:
        self._functions = functions
        self._launcher = launcher
        self._journal = journal
        self._failed = failed
        self._task: asyncio.Task[None] | None = None

    async def begin(self, specs: Iterable[FunctionSpec]) -> None:
        """Check these, in place of what is still under way."""
        await self.stop()
        specs = [spec for spec in specs if not spec.unrunnable]  # else the template said it already
        self._task = asyncio.create_task(self._check(specs))
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(error)

    async def _check(self, specs: list[FunctionSpec]) -> None:
        folder = None
        # Functions of one folder can share a fork server, which goes when it has served them.
        for spec in sorted(specs, key=lambda spec: spec.code_dir):
            if folder not in (None, spec.code_dir):
                self._launcher.rest()
            folder = spec.code_dir
            failure = await self._functions.check(spec.name)
            if failure is not None:
                line = import_problem(spec, failure)
                self._journal.record("log", line=line, level="ERROR")
        self._launcher.rest()

    async def stop(self) -> None:
        """Check no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
