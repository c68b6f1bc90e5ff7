"""Functions that do not run: the environment whose init fails, and the check that finds them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from twolane_local.aws.lambda_ import report
from twolane_local.aws.lambda_.output import Output
from twolane_local.aws.lambda_.report import import_problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from twolane_local.aws.invocation import Invocation
    from twolane_local.aws.lambda_.environment import Owner, Work
    from twolane_local.aws.lambda_.functions import Functions
    from twolane_local.aws.lambda_.output import Sink
    from twolane_local.aws.lambda_.process import Launcher
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec


def init_failure(spec: FunctionSpec) -> bytes | None:
    """The error object of an init that cannot begin, ``None`` if there is code to start.

    Call it at each init: missing files may exist by then.
    """
    if spec.unrunnable:
        # The error of an image for another architecture:
        # https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-images.html
        return report.error("Runtime.InvalidEntrypoint", f"RequestId:  Error: {spec.unrunnable}")
    if spec.program is not None:
        # https://docs.aws.amazon.com/lambda/latest/dg/troubleshooting-invocation.html
        return None if spec.program.is_file() else report.error(
            "Runtime.InvalidEntrypoint",
            "RequestId:  Error: Couldn't find valid bootstrap(s): "
            "[/var/task/bootstrap /opt/bootstrap]",
        )  # fmt: skip
    if spec.code_dir.is_dir():
        return None
    module = spec.handler.rpartition(".")[0]
    first = module.replace("/", ".").partition(".")[0]
    return report.import_failed(module, f"No module named {first!r}")


class UnrunnableEnvironment:
    """Implements ``Environment``; its init fails."""

    responded = False

    def __init__(
        self,
        failure: bytes,
        spec: FunctionSpec,
        *,
        owner: Owner,
        journal: Journal,
        log: Sink | None = None,
    ) -> None:
        self._failure = failure
        self._owner = owner
        self._memory_mb = spec.memory_mb
        self._output = Output(journal, spec, log)
        self._stopped = False

    def start(self) -> None:
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        if not self._stopped:
            self._owner.gone(self, self._failure)

    def begin(self, work: Work) -> None:
        raise RuntimeError(f"the environment is not free for {work.request_id}")

    def refuse(self, work: Work, failure: bytes) -> Invocation:
        return self._output.refuse(work, failure, self._memory_mb)

    async def where(self) -> str:
        return ""

    async def stop(self) -> None:
        self._stopped = True


#: With more functions, ``twolane up`` does not wait for an environment of each.
FEW = 8


class InitChecks:
    """Runs the init of each function once, in the background, and logs failures in the journal.

    An unexpected error is passed to ``failed``.
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
        """Check these functions; replaces a check under way."""
        await self.stop()
        specs = [spec for spec in specs if not spec.unrunnable]  # the template's remarks name those
        self._task = asyncio.create_task(self._check(specs))
        self._task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._failed(error)

    async def _check(self, specs: list[FunctionSpec]) -> None:
        folder = None
        # Functions of one folder share a fork server, which ends after them.
        for spec in sorted(specs, key=lambda spec: spec.code_dir):
            if folder not in (None, spec.code_dir):
                self._launcher.rest()
            folder = spec.code_dir
            failure = await self._functions.check(spec.name)
            if failure is not None:
                line = import_problem(spec, failure)
                self._journal.record("log", line=line, level="ERROR")
        self._launcher.rest()

    async def ended(self) -> None:
        """Wait for the end of the check under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def stop(self) -> None:
        """Stop the check."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
