"""``Live``: a project's stack on real parts, with what a test needs to break them.

Each function has processes of its own, its Redis is a ``redis-server`` behind a proxy, and time is
real. All methods are synchronous and called from the test's thread; the emulator runs on another.

``LiveWatch`` makes of a running emulator and its Redis the facts that the invariants read.
"""

from __future__ import annotations

import asyncio
import json
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
from twolane_local.faults.seams import task_id_of, task_name_of
from twolane_local.model.options import Options
from twolane_local.testing.processes.proxy import Proxy
from twolane_local.testing.simulation.invariants import Bounds, Fact, History, Violation, violations
from twolane_local.testing.views import JournalView, Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path

    import httpx

    from twolane_local.aws.lambda_.environment import Environment, Owner
    from twolane_local.faults.injection import Faults
    from twolane_local.model import FunctionSpec


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

    def __exit__(self, *_: object) -> None:
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
        return JournalView(self.emulator.journal, self._started_at)

    def until(self, what: Callable[[], object], within_s: float = 30.0) -> None:
        """Wait until ``what()`` is true; raises ``TimeoutError`` with the journal."""
        give_up = time.monotonic() + within_s
        while not what():
            if time.monotonic() > give_up:
                raise TimeoutError(f"not so after {within_s} s:\n{self.journal.story()}")
            time.sleep(0.02)

    def signal(self, function: str, number: int = signal.SIGKILL) -> int:
        """Signal each environment of the function of this name or logical id; return how many."""
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


RESULT = "celery-task-meta-"


class LiveWatch:
    """Watches one emulator from its start, with a ``client`` (redis-py's) of its Redis: results on
    the channels on which Celery publishes each state; effects as JSON on ``effects_key``:
    ``{"task", "lease", "holder", "at"}``.
    """

    def __init__(self, emulator: Emulator, client: Any, *, effects_key: str = "effects") -> None:
        self._emulator, self._client, self._effects = emulator, client, effects_key
        self.history = History()
        self._lock = threading.Lock()
        emulator.journal.subscribe(self._heard)
        self._channel = client.pubsub(ignore_subscribe_messages=True)
        self._channel.psubscribe(**{f"*{RESULT}*": self._changed})
        self._thread: Any = self._channel.run_in_thread(sleep_time=0.02, daemon=True)

    def _heard(self, event: Any) -> None:
        with self._lock:
            self.history.heard(event)
            if event.kind == "message.sent" and event.queue is not None:
                self._taken(event)

    def _taken(self, event: Any) -> None:
        for entry in self._emulator.queues.refreshed(event.queue):
            if entry.message.id == event.message_id:
                body = entry.message.body
                data = {"body": body, "name": task_name_of(body)}
                self.history.add(
                    Fact(event.at, "body.taken", task_id_of(body), event.message_id,
                         event.queue, data=data)
                )  # fmt: skip

    def _changed(self, message: dict[str, Any]) -> None:
        value = json.loads(message["data"])
        fact = Fact(
            self._emulator.clock.time(), "result.changed", str(value["task_id"]),
            data={"status": value["status"]},
        )  # fmt: skip
        with self._lock:
            self.history.add(fact)

    def acknowledged(self, task: str) -> None:
        """A publisher was told that its task is on its queue."""
        with self._lock:
            self.history.add(Fact(self._emulator.clock.time(), "enqueue.acknowledged", task))

    def faults_ended(self) -> None:
        """From here on the drain is timed."""
        with self._lock:
            self.history.add(Fact(self._emulator.clock.time(), "faults.ended"))

    def close(self) -> None:
        """Watch Redis no more."""
        self._thread.stop()
        self._thread.join(5)
        self._channel.close()

    def violations(self, bounds: Bounds, queues: tuple[str, ...], dead: str) -> list[Violation]:
        """Count what is left and judge; nothing is watched after this."""
        self.close()
        now = self._emulator.clock.time()
        for text in self._client.lrange(self._effects, 0, -1):
            value = json.loads(text)
            lease = {"lease": value.get("lease"), "holder": value.get("holder")}
            self.history.add(
                Fact(value.get("at", now), "effect.committed", value["task"], data=lease)
            )
        for queue in (dead, *queues):
            kind = "dead.letter" if queue == dead else "left.over"
            for entry in self._emulator.queues.refreshed(queue):
                message = entry.message
                self.history.add(
                    Fact(now, kind, task_id_of(message.body), message.id, queue,
                         data={"body": message.body})
                )  # fmt: skip
        self.history.add(Fact(now, "run.ended"))
        return violations(self.history, bounds)
