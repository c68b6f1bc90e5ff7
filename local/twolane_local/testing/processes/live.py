"""``Live``: a project's stack on real parts, with what a test needs to break them.

Each function has processes of its own, its Redis is a ``redis-server`` behind a proxy, and time is
real. All methods are synchronous and called from the test's thread; the emulator runs on another.

``LiveWatch`` makes of a running emulator and its Redis the facts that the invariants read.

``Proxy`` is a TCP proxy that cuts connections: before a request gets through, or before its answer
does.
"""

from __future__ import annotations

import asyncio
import contextlib
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
from twolane_local.model import Options
from twolane_local.testing.simulation.invariants import Bounds, Fact, History, Violation, violations
from twolane_local.testing.views import JournalView, Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from pathlib import Path
    from typing import Self

    import httpx

    from twolane_local.aws.lambda_.environment import Environment, Owner
    from twolane_local.faults.injection import Faults
    from twolane_local.model import FunctionSpec


_CHUNK = 65_536


class Proxy:
    """Leads a loopback port to a server's::

    async with Proxy("127.0.0.1", 6379) as proxy:
        proxy.down = True              # nobody gets through
        proxy.cut_answers(b"EVALSHA")  # the next request with this in it loses its answer
        proxy.silence_after(b"EVALSHA")  # from such a request on nothing gets through, unsaid
    """

    def __init__(self, host: str, port: int) -> None:
        self._host, self._port = host, port
        self._server: asyncio.Server | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open: set[asyncio.StreamWriter] = set()
        self._down = False
        self._cut: tuple[bytes, int, Callable[[], object]] | None = None
        self._silent_after: bytes | None = None
        self._silent = False
        #: How often an answer was cut off, and how many connections were refused.
        self.cuts = self.refused = 0

    @property
    def port(self) -> int:
        if self._server is None:
            raise LocalError("the proxy is not open; use it in `async with`")
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def down(self) -> bool:
        """While true, connections are closed at once, those that were open included.

        May be set from any thread.
        """
        return self._down

    @down.setter
    def down(self, down: bool) -> None:
        self._down = down
        if down and self._loop is not None:
            self._loop.call_soon_threadsafe(self._close_all)

    def _close_all(self) -> None:
        for writer in tuple(self._open):
            writer.transport.abort()

    def cut_answers(
        self, to: bytes, times: int = 1, told: Callable[[], object] = lambda: None
    ) -> None:
        """Hand on the next requests that hold ``to``, and close their connections unanswered."""
        self._cut = (to, times, told)

    def silence_after(self, request: bytes) -> None:
        """From the next request that holds these bytes on, be a route that is no more: connections
        stay open and new ones are taken, but nothing is handed on. ``b""`` begins with any request.
        """
        self._silent_after = request

    def speak(self) -> None:
        """Undo ``silence_after``: what comes from now on, on new connections, gets through."""
        self._silent_after, self._silent = None, False

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._down = True
        self._close_all()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            self.refused += 1
            writer.transport.abort()
            return
        upstream, up = await asyncio.open_connection(self._host, self._port)
        self._open |= {writer, up}
        silent = asyncio.Event()
        ways = [
            asyncio.ensure_future(self._requests(reader, up, writer, silent)),
            asyncio.ensure_future(_copy(upstream, writer, silent)),
        ]
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        self._open -= {writer, up}
        for each in (writer, up):
            each.transport.abort()

    async def _requests(
        self,
        reader: asyncio.StreamReader,
        up: asyncio.StreamWriter,
        writer: asyncio.StreamWriter,
        silent: asyncio.Event,
    ) -> None:
        while data := await reader.read(_CHUNK):
            if self._silent_after is not None and self._silent_after in data:
                self._silent = True
            if self._silent:
                silent.set()
                continue
            cut = self._cut
            if cut is not None and cut[0] in data:
                silent.set()
                self.cuts += 1
                self._cut = (cut[0], cut[1] - 1, cut[2]) if cut[1] > 1 else None
                cut[2]()
            up.write(data)
            await up.drain()
            if silent.is_set():
                await asyncio.sleep(0.05)  # the server has time to do what it was told
                writer.transport.abort()
                return


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silent: asyncio.Event
) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(_CHUNK):
            if silent.is_set():
                return
            writer.write(data)
            await writer.drain()


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
