"""The environment of a function that cannot run on this machine: each init of it fails."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from twolane_local.environments import report

if TYPE_CHECKING:
    from twolane_local.environments import Owner, Work
    from twolane_local.model import FunctionSpec


def failure_of(spec: FunctionSpec) -> bytes | None:
    """What each init ends in before anything is started; ``None`` where there is code to start.

    Looked for at each init: what is missing may have been put there since.
    """
    if spec.unrunnable:
        # What an image answers that is not of the machine's architecture:
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
    """Implements ``Environment``: an init that fails, and nothing else."""

    responded = False

    def __init__(self, failure: bytes, *, owner: Owner) -> None:
        self._failure = failure
        self._owner = owner
        self._stopped = False

    def start(self) -> None:
        asyncio.get_running_loop().call_soon(self._end)

    def _end(self) -> None:
        if not self._stopped:
            self._owner.gone(self, self._failure)

    def begin(self, work: Work) -> None:
        raise RuntimeError(f"the environment is not free for {work.request_id}")

    async def where(self) -> str:
        return ""

    async def stop(self) -> None:
        self._stopped = True
