"""``Live``: a project's stack on real parts, with what a test needs to break them.

Each function has processes of its own, its Redis is a ``redis-server`` behind a proxy, and time is
real. All methods are synchronous and called from the test's thread; the emulator runs on another.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import threading
import time
from contextlib import AsyncExitStack
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self, TypeVar
from unittest import mock
from urllib.parse import urlsplit

import redis

from twolane_local.aws.redis import open_store
from twolane_local.emulator import Emulator
from twolane_local.errors import HandlerImportError, LocalError
from twolane_local.live.proxy import Proxy
from twolane_local.live.watch import LiveWatch
from twolane_local.model.options import Options
from twolane_local.simulator.invariants import Bounds
from twolane_local.testing.events import JournalView
from twolane_local.testing.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path
    from types import TracebackType

    import httpx

    from twolane_local.aws.lambda_.environment import Environment, Owner
    from twolane_local.faults.injection import Faults
    from twolane_local.model import FunctionSpec
    from twolane_local.simulator.invariants import Violation

T = TypeVar("T")

_START_LIMIT_S = 60.0


class _Emulator(Emulator):
    """Remembers its execution environments, for whoever sends them signals."""

    made: list[Any]

    def _environment(self, spec: FunctionSpec, owner: Owner) -> Environment:
        environment = super()._environment(spec, owner)
        self.made.append((spec.name, environment))
        return environment


class Live:
    """Use as a context manager. Faults that need virtual time are made with ``signal`` and
    ``proxy`` here; ``faults`` takes those of a running emulator.
    """

    def __init__(self, template: Path, parameters: Mapping[str, str]) -> None:
        self._template, self._parameters = template.resolve(), parameters
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="twolane-live")
        self._undo = AsyncExitStack()

    def __enter__(self) -> Self:
        if shutil.which("redis-server") is None:
            raise LocalError(
                "redis-server is not on the PATH; install it for tests with real parts"
            )
        self._environ = mock.patch.dict(os.environ)  # the emulator gives it dummy credentials
        self._environ.start()
        self._thread.start()
        try:
            self._run(self._start(), _START_LIMIT_S)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._run(self._undo.aclose(), _START_LIMIT_S)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            self._environ.stop()

    def _run(self, work: Coroutine[Any, Any, T], within_s: float) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(within_s)

    async def _start(self) -> None:
        server = await open_store(None)
        self._undo.push_async_callback(server.stop)
        at = urlsplit(server.url)
        #: Stands before the Redis of the functions.
        self.proxy = await self._undo.enter_async_context(
            Proxy(str(at.hostname), int(at.port or 0))
        )
        #: The same Redis, past the proxy.
        self.redis = redis.Redis.from_url(server.url, decode_responses=True)
        self._undo.callback(self.redis.close)
        self.emulator = _Emulator(
            Options(
                self._template, port=0, aws_port=0, parameters=self._parameters,
                redis_url=f"redis://127.0.0.1:{self.proxy.port}/0",
            )
        )  # fmt: skip
        self.emulator.made = []
        self._started_at = self.emulator.clock.time()
        await self.emulator.start()
        self._undo.push_async_callback(self.emulator.stop)
        for problem in self.emulator.problems:
            raise HandlerImportError(problem)
        #: What happens, as facts for the invariants.
        self.watch = LiveWatch(self.emulator, redis.Redis.from_url(server.url))
        self._undo.callback(self.watch.close)

    @cached_property
    def client(self) -> httpx.Client:
        """An HTTP client of the first API."""
        import httpx

        apis = self.emulator.addresses.apis
        if not apis:
            raise LocalError("the stack has no API")
        client = httpx.Client(base_url=next(iter(apis.values())), timeout=30)
        self._undo.callback(client.close)
        return client

    @property
    def faults(self) -> Faults:
        """Faults at queues, invocations and ticks."""
        return self.emulator.faults

    @cached_property
    def tasks(self) -> Tasks:
        """Celery's tasks, by id or name."""
        return Tasks(self.emulator.journal)

    @cached_property
    def journal(self) -> JournalView:
        """What happened."""
        return JournalView(self.emulator.journal, self._started_at)

    def until(self, what: Callable[[], object], within_s: float = 30.0) -> None:
        """Wait until ``what()`` is true; raises ``TimeoutError`` with the journal."""
        give_up = time.monotonic() + within_s
        while not what():
            if time.monotonic() > give_up:
                raise TimeoutError(f"not so after {within_s} s:\n{self.journal.story()}")
            time.sleep(0.02)

    def signal(self, function: str, number: int = signal.SIGKILL) -> int:
        """Send a signal to each execution environment of the function of this name, or of this
        logical id in the template; tells to how many.
        """
        names = {function, f"{self.emulator.stack.name}-{function}"}

        async def send() -> int:
            sent = 0
            for name, environment in self.emulator.made:
                process = environment._process  # noqa: SLF001 - the emulator has no use for it
                gone = environment._gone.is_set()  # noqa: SLF001 - likewise
                if name not in names or gone or process is None:
                    continue
                os.killpg(process.pid, number)
                sent += 1
            return sent

        return self._run(send(), 10)

    def violations(self, queue: str, dead: str, *, bounds: Bounds | None = None) -> list[Violation]:
        """The invariants that do not hold, judged at the end: all work must be done by then.

        ``queue`` and ``dead`` are names of queues.
        """
        return self.watch.violations(bounds or Bounds(), (queue,), dead)
