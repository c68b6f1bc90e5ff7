"""The application's tasks, as its own Celery app knows them: asked in a child process.

The emulator never imports the application. The child starts when somebody first asks, stays while
the code does, and goes with the emulator.
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
#: One answer, in seconds: a publish waits for the queue at most.
ANSWER_S = 30.0
#: The longest answer, in bytes: all tasks of a large application.
_LINE = 16 << 20


class ApplicationError(LocalError):
    """The application's Celery app cannot be asked; the message says why."""


class Application:
    """Starts, asks and ends the child. One question at a time."""

    def __init__(
        self,
        functions: Callable[[], Iterable[FunctionSpec]],
        environ: Callable[[FunctionSpec], Mapping[str, str]],
    ) -> None:
        """``functions`` gives those to try, the likeliest first."""
        self._functions = functions
        self._environ = environ
        self._turn = asyncio.Lock()
        self._child: asyncio.subprocess.Process | None = None
        self._tasks: list[dict[str, Any]] | None = None

    async def tasks(self) -> list[dict[str, Any]]:
        """Every registered task: name, doc, parameters, options. Raises ``ApplicationError``."""
        if self._tasks is None:
            self._tasks = list((await self._ask({"do": "tasks"}))["tasks"])
        return self._tasks

    async def publish(self, name: str, **asked: Any) -> dict[str, Any]:
        """Send a task; ``{taskId, messageId, queue, delaySeconds}``. Raises ``ApplicationError``.

        ``asked``: args, kwargs, countdown (seconds), task_id, queue, headers.
        """
        return await self._ask({"do": "publish", "name": name, **asked})

    async def forget(self) -> None:
        """The code has changed: the next question starts a new child."""
        self._tasks = None
        await self.close()

    async def close(self) -> None:
        """End the child; returns when it is gone."""
        child, self._child = self._child, None
        if child is not None and child.returncode is None:
            child.kill()
            await child.wait()

    async def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        async with self._turn:
            child = await self._ready()
            answer = await self._line(child, json.dumps(question), ANSWER_S)
        if "error" in answer:
            raise ApplicationError(str(answer["error"]))
        return answer

    async def _ready(self) -> asyncio.subprocess.Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        problems = []
        for spec in self._functions():
            child = await self._start(spec)
            answer = await self._line(child, None, START_S)
            if answer.get("ready"):
                self._child = child
                return child
            problems.append(f"{spec.logical_id}: {answer.get('error', 'it ended')}")
            await child.wait()
        why = "; ".join(problems) or "the stack has no function"
        raise ApplicationError(f"no function's module gives a Celery application ({why})")

    async def _start(self, spec: FunctionSpec) -> asyncio.subprocess.Process:
        environ = {**self._environ(spec), "PYTHONUNBUFFERED": "1"}
        # The runtime and what runs this emulator must be found as in an execution environment.
        paths = [environ.get("PYTHONPATH", ""), *(each for each in sys.path if each)]
        environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
        return await asyncio.create_subprocess_exec(
            sys.executable, "-I", parent_death.__file__, str(os.getpid()),
            sys.executable, "-m", _CHILD, spec.handler,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL, env=environ, cwd=spec.code_dir, limit=_LINE,
        )  # fmt: skip

    async def _line(
        self, child: asyncio.subprocess.Process, question: str | None, seconds: float
    ) -> dict[str, Any]:
        if child.stdin is None or child.stdout is None:
            raise ApplicationError("the child has no pipes")
        try:
            async with asyncio.timeout(seconds):
                if question is not None:
                    child.stdin.write(question.encode() + b"\n")
                    await child.stdin.drain()
                line = await child.stdout.readline()
        except (TimeoutError, ConnectionError) as error:
            child.kill()
            await child.wait()
            raise ApplicationError(
                f"the application gave no answer within {seconds:.0f} s; look at its imports"
            ) from error
        return dict(json.loads(line)) if line else {"error": "its process ended; try again"}
