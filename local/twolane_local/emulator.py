"""The emulator: everything that a template asks for, composed on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane_local import guard, stack, template
from twolane_local.async_invoke import AsyncInvocations
from twolane_local.aws import AwsEndpoint
from twolane_local.clock import SystemClock
from twolane_local.environments.capture import captured
from twolane_local.environments.fork_launcher import ForkLauncher
from twolane_local.environments.inprocess import InProcessEnvironment
from twolane_local.environments.isolated import IsolatedEnvironment
from twolane_local.environments.process import SpawnLauncher
from twolane_local.errors import HandlerImportError, TemplateError
from twolane_local.functions import Functions
from twolane_local.gateway import Gateway
from twolane_local.journal import Journal
from twolane_local.mapping.mapping import Mapping as QueueMapping
from twolane_local.mapping.registry import Mappings
from twolane_local.queues.core import QueueService
from twolane_local.schedules.source import ScheduleSource
from twolane_local.servers import HttpServer, bind
from twolane_local.stack_moto_process import MotoProcess
from twolane_local.store import open_store

if TYPE_CHECKING:
    import socket
    from collections.abc import Coroutine, Mapping
    from pathlib import Path

    from twolane_local.clock import Clock
    from twolane_local.environments import Environment, Owner
    from twolane_local.environments.process import Launcher
    from twolane_local.model import FunctionSpec, Stack
    from twolane_local.store import Store

#: The template parameter that gets the local store's address when nobody sets it.
STORE_PARAMETER = "RedisUrl"


@dataclass(frozen=True, slots=True)
class Options:
    """What `twolane up` can be told. Port 0 is any free port."""

    template: Path
    port: int = 3000
    aws_port: int = 4566
    redis_url: str | None = None
    in_process: bool = False
    parameters: Mapping[str, str] = field(default_factory=dict)
    stack_name: str = "local"
    allow_real_aws: bool = False
    http: bool = True
    sources: bool = True  # mappings and schedules
    warm: bool = True  # an environment of each function at the start


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is; ``apis`` by API id."""

    apis: Mapping[str, str]
    aws: str
    store: str
    store_kind: str
    queues: Mapping[str, str]


class Emulator:
    """Starts and stops all of it. One for each process: it gives the process dummy credentials."""

    def __init__(self, options: Options, *, clock: Clock | None = None) -> None:
        self.options = options
        self.clock: Clock = clock or SystemClock()
        self.journal = Journal(self.clock)
        self.notes: list[str] = []
        self.stack: Stack
        self.addresses: Addresses
        self.functions: Functions
        self.queues = QueueService(self.clock, self.journal)
        self.mappings = Mappings()
        self._launcher: Launcher = ForkLauncher() if sys.platform == "linux" else SpawnLauncher()
        self._moto: MotoProcess
        self._servers: list[HttpServer] = []
        self._tasks: list[asyncio.Task[Any]] = []
        self._stopping = contextlib.AsyncExitStack()
        #: Set to the reason when something ends that the rest needs.
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> Addresses:
        """Everything up and every handler imported; raises ``LocalError``, with all stopped."""
        try:
            return await self._start()
        except BaseException:
            await self.stop()
            raise

    async def _start(self) -> Addresses:
        guard.protect_own_process()
        if self.options.in_process:
            loop = asyncio.get_running_loop()
            self._stopping.enter_context(captured(self.journal, loop))
        aws_listener = self._bind(self.options.aws_port, "--aws-port")
        first = self._bind(self.options.port, "--port") if self.options.http else None
        self._moto = MotoProcess()
        self._stopping.push_async_callback(self._moto.stop)
        await self._moto.start(_url(aws_listener))
        store = await open_store(self.options.redis_url)
        self._stopping.push_async_callback(store.stop)
        expanded = await asyncio.to_thread(self._load, store)
        aws_url = _url(aws_listener)
        listeners = self._api_listeners(expanded, first)
        base_urls = {api: _url(listener) for api, listener in listeners.items()}
        self.stack, self.notes = stack.build(
            expanded,
            stack.Facts(
                aws_url=aws_url,
                base_url=lambda api: base_urls.get(api, "http://127.0.0.1"),
                elsewhere=_unknown,
            ),
        )
        for queue in self.stack.queues:
            self.queues.create(queue.name, dict(queue.attributes))
        self.functions = Functions(self.stack.functions, self._environment(aws_url), self.journal)
        self._stopping.push_async_callback(self._launcher.close)
        self._stopping.push_async_callback(self.functions.close)
        await self._serve_aws(aws_listener)
        self._watch(self._moto.create(self.stack.name, self.stack.moto_template), "moto")
        if self.options.warm:
            await self._warm()
        if self.options.http:
            await self._serve_apis(listeners)
        self._start_sources()
        self.addresses = Addresses(
            apis=base_urls,
            aws=aws_url,
            store=store.url,
            store_kind=store.kind,
            queues={spec.name: f"{aws_url}/123456789012/{spec.name}" for spec in self.stack.queues},
        )
        return self.addresses

    def _bind(self, port: int, flag: str) -> socket.socket:
        listener = bind(port, flag)
        self._stopping.callback(listener.close)
        return listener

    def _load(self, store: Store) -> template.Template:
        parameters = dict(self.options.parameters)
        if STORE_PARAMETER not in parameters:
            with contextlib.suppress(TemplateError):
                return template.load(
                    self.options.template,
                    {**parameters, STORE_PARAMETER: store.url},
                    stack_name=self.options.stack_name,
                )
        return template.load(self.options.template, parameters, stack_name=self.options.stack_name)

    def _api_listeners(
        self, expanded: template.Template, first: socket.socket | None
    ) -> dict[str, socket.socket]:
        """One port for each API: the first gets ``--port``, the others those that follow."""
        kinds = {"AWS::ApiGatewayV2::Api", "AWS::ApiGateway::RestApi", "AWS::Lambda::Url"}
        ids = [name.lower() for name, item in expanded.resources.items() if item["Type"] in kinds]
        if first is None or not ids:
            return {}
        listeners = {ids[0]: first}
        for offset, api in enumerate(ids[1:], start=1):
            port = self.options.port + offset if self.options.port else 0
            listeners[api] = self._bind(port, "--port")
        return listeners

    def _environment(self, aws_url: str) -> Any:
        def make(spec: FunctionSpec, owner: Owner) -> Environment:
            environ = guard.function_environment(
                spec, endpoint_url=aws_url, allow_real_aws=self.options.allow_real_aws
            )
            if self.options.in_process:
                return InProcessEnvironment(spec, environ, owner=owner, journal=self.journal)
            return IsolatedEnvironment(
                spec, environ, owner=owner, launcher=self._launcher, journal=self.journal
            )

        return make

    async def _serve_aws(self, listener: socket.socket) -> None:
        specs = {spec.name: spec for spec in self.stack.functions}
        self._asynchronous = AsyncInvocations(
            self.functions, specs, self.queues, self.clock, self.journal
        )
        self._stopping.push_async_callback(self._asynchronous.close)
        endpoint = AwsEndpoint(
            self.queues,
            self.functions,
            fallback=self._moto,
            functions=specs,
            asynchronous=self._asynchronous,
            mappings=self.mappings,
        )
        await self._serve(endpoint, listener)

    async def _serve_apis(self, listeners: Mapping[str, socket.socket]) -> None:
        for api, listener in listeners.items():
            routes = [route for route in self.stack.routes if route.api_id == api]
            gateway = Gateway(routes, self.functions, self.clock, self.journal)
            await self._serve(gateway, listener)

    async def _serve(self, app: Any, listener: socket.socket) -> None:
        server = HttpServer(app, listener)
        await server.start()
        self._stopping.push_async_callback(server.stop)

    async def _warm(self) -> None:
        """A handler that does not import is said now, not at the first request."""
        for name, failure in (await self.functions.warm()).items():
            spec = next(spec for spec in self.stack.functions if spec.name == name)
            raise HandlerImportError(import_problem(spec, failure))

    def _start_sources(self) -> None:
        if not self.options.sources:
            return
        for spec in self.stack.mappings:
            mapping = QueueMapping(spec, self.queues, self.functions, self.clock, self.journal)
            self.mappings.add(mapping)
            self._watch(mapping.run(), f"mapping {spec.uuid}")
        source = ScheduleSource(
            self.stack.schedules, self._asynchronous, self.queues, self.clock, self.journal
        )
        self._watch(source.run(), "schedules")

    def _watch(self, work: Coroutine[Any, Any, Any], what: str) -> None:
        """Run it beside the rest; if it fails, the emulator fails."""
        task = asyncio.ensure_future(work)
        task.set_name(what)
        self._tasks.append(task)

        def done(finished: asyncio.Task[Any]) -> None:
            if finished.cancelled() or self.failed.done():
                return
            error = finished.exception()
            if error is not None:
                self.failed.set_exception(error)

        task.add_done_callback(done)

    async def run_until(self, stopped: asyncio.Task[Any]) -> None:
        """Wait for ``stopped``; raises what made the emulator fail, if it does so before."""
        waiting: list[asyncio.Future[Any]] = [stopped, self.failed]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            self.failed.result()

    async def stop(self) -> None:
        """Nothing of it is left when this returns."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stopping.aclose()
        if self.failed.done():
            self.failed.exception()  # seen: whoever runs the emulator has raised it
        else:
            self.failed.cancel()


def import_problem(spec: FunctionSpec, failure: bytes) -> str:
    """One line on a function whose init failed."""
    try:
        value = json.loads(failure)
    except ValueError:
        value = {}
    reason = f"{value.get('errorType', 'Error')}: {value.get('errorMessage', '')}"
    return (
        f"{spec.logical_id}: handler {spec.handler} in {spec.code_dir} does not load: {reason} "
        "(its own output is above); correct it and start again"
    )


def _unknown(logical_id: str, attribute: str | None) -> Any:
    raise KeyError(logical_id, attribute)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"
