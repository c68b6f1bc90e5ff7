"""The application's tasks, from its own Celery app in a child process.

The emulator never imports the application. The child starts with the first request, lives until
the code changes, and ends with the emulator.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_ import parent_death
from twolane_local.errors import LocalError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from twolane_local.model import FunctionSpec

_CHILD = "twolane_local.console.application_child"
#: The first import of an application may take this long, in seconds.
START_S = 60.0
#: The limit of one answer, in seconds: the slowest is a publish, which waits for the queue.
ANSWER_S = 30.0
#: The longest answer, in bytes: all tasks of a large application.
_LINE = 16 << 20


class ApplicationError(LocalError):
    """The application's Celery app does not answer; the message says why."""


class Application:
    """Starts and ends the child, and sends it one request at a time."""

    def __init__(
        self,
        functions: Callable[[], Iterable[FunctionSpec]],
        environ: Callable[[FunctionSpec], Mapping[str, str]],
    ) -> None:
        """``functions`` returns the functions to try, the likeliest first."""
        self._functions = functions
        self._environ = environ
        self._lock = asyncio.Lock()
        self._child: asyncio.subprocess.Process | None = None
        self._tasks: list[dict[str, Any]] | None = None

    async def tasks(self) -> list[dict[str, Any]]:
        """Return every registered task. Raises ``ApplicationError``."""
        if self._tasks is None:
            self._tasks = list((await self._request({"do": "tasks"}))["tasks"])
        return self._tasks

    async def publish(self, name: str, **options: Any) -> dict[str, Any]:
        """Send a task; return ``{taskId, messageId, queue, delaySeconds}``. ``options``: args,
        kwargs, countdown (seconds), task_id, queue, headers. Raises ``ApplicationError``.
        """
        return await self._request({"do": "publish", "name": name, **options})

    async def forget(self) -> None:
        """End the child after a change of the code; the next request starts a new one."""
        self._tasks = None
        await self.close()

    async def close(self) -> None:
        """End the child and wait for its end."""
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            child.kill()
            await child.wait()

    async def _request(self, request: dict[str, Any]) -> dict[str, Any]:
        async with self._lock:
            child = await self._running_child()
            answer = await self._exchange(child, json.dumps(request), ANSWER_S)
        if "error" in answer:
            raise ApplicationError(str(answer["error"]))
        return answer

    async def _running_child(self) -> asyncio.subprocess.Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        problems = []
        for spec in self._functions():
            child = await self._start(spec)
            answer = await self._exchange(child, None, START_S)
            if answer.get("ready"):
                self._child = child
                return child
            problems.append(f"{spec.logical_id}: {answer.get('error', 'it ended')}")
            await child.wait()
        why = "; ".join(problems) or "the stack has no function"
        raise ApplicationError(f"no function's module has a Celery application ({why})")

    async def _start(self, spec: FunctionSpec) -> asyncio.subprocess.Process:
        environ = {**self._environ(spec), "PYTHONUNBUFFERED": "1"}
        # The child must find the runtime and this emulator's packages, like an environment does.
        paths = [environ.get("PYTHONPATH", ""), *(each for each in sys.path if each)]
        environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", parent_death.__file__, str(os.getpid()),
            sys.executable, "-m", _CHILD, spec.handler,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, env=environ, cwd=spec.code_dir, limit=_LINE,
        )  # fmt: skip

    async def _exchange(
        self, child: asyncio.subprocess.Process, request: str | None, seconds: float
    ) -> dict[str, Any]:
        if child.stdin is None or child.stdout is None:
            raise ApplicationError("the child has no pipes")
        try:
            async with asyncio.timeout(seconds):
                if request is not None:
                    child.stdin.write(request.encode() + b"\n")
                    await child.stdin.drain()
                line = await child.stdout.readline()
        except (TimeoutError, ConnectionError) as error:
            child.kill()
            await child.wait()
            raise ApplicationError(
                f"the application did not answer within {seconds:.0f} s; look at its imports"
            ) from error
        return dict(json.loads(line)) if line else {"error": "its process ended; try again"}
