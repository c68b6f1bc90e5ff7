"""The emulator runs everything in a template on one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from twolane_local import patches, template
from twolane_local.aws import guard
from twolane_local.aws.changes import Changes, ChangesLog
from twolane_local.aws.effective import archives, declared, effective
from twolane_local.aws.endpoint import AwsEndpoint, ContainerCredentials
from twolane_local.aws.event_source_mapping import EventSourceMappings
from twolane_local.aws.http_api.gateways import Gateways
from twolane_local.aws.lambda_ import mounts
from twolane_local.aws.lambda_.asynchronous import AsyncInvocations, EventLog
from twolane_local.aws.lambda_.code import CodeStore, UnpackedCode, remove_abandoned
from twolane_local.aws.lambda_.code_signing import CodeSigningOperations
from twolane_local.aws.lambda_.control import FunctionOperations
from twolane_local.aws.lambda_.functions import MAX_ENVIRONMENTS, Functions
from twolane_local.aws.lambda_.inprocess import InProcessEnvironment, captured
from twolane_local.aws.lambda_.installation import Preparation
from twolane_local.aws.lambda_.interpreters import link_runtime_packages
from twolane_local.aws.lambda_.isolated import INIT_LIMIT_S, IsolatedEnvironment
from twolane_local.aws.lambda_.launchers import ForkLauncher, launcher, snapstart_available
from twolane_local.aws.lambda_.layers import LayerOperations
from twolane_local.aws.lambda_.mappings import EventSourceMappingOperations
from twolane_local.aws.lambda_.report import import_problem
from twolane_local.aws.lambda_.settings import SettingOperations
from twolane_local.aws.lambda_.unrunnable import InitChecks, UnrunnableEnvironment, init_failure
from twolane_local.aws.logs.api import LogsApi
from twolane_local.aws.logs.groups import Groups, KeptGroups, stream_name
from twolane_local.aws.moto.process import MotoProcess, MotoValues
from twolane_local.aws.redis import open_store
from twolane_local.aws.scheduler.api import SchedulerApi
from twolane_local.aws.scheduler.schedule import ScheduleBook
from twolane_local.aws.sources import Sources
from twolane_local.aws.sqs.api import SqsApi
from twolane_local.aws.sqs.persistence import QueueLog
from twolane_local.clock import SystemClock
from twolane_local.emulator.progress import StartProgress
from twolane_local.emulator.reload import stamps, watch
from twolane_local.errors import LocalError
from twolane_local.faults.injection import Faults
from twolane_local.faults.seams import FaultyInvoker, FaultyQueues, FaultyTicks
from twolane_local.http.access import Door
from twolane_local.http.servers import HttpServer, bind, url_of
from twolane_local.journal import Journal
from twolane_local.journal.files import make_private
from twolane_local.model import Addresses, Options
from twolane_local.template import stack
from twolane_local.template.routes import served_apis
from twolane_local.template.sources import with_mountable

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Iterable
    from pathlib import Path

    from twolane_local.aws.call import AwsService
    from twolane_local.aws.lambda_.environment import Environment, Owner
    from twolane_local.clock import Clock
    from twolane_local.console.server import Console
    from twolane_local.model import FunctionSpec, Stack

__all__ = ["STORE_PARAMETER", "Addresses", "Emulator", "Options"]

#: The template parameter that gets the local store's address, unless the user sets it.
STORE_PARAMETER = "RedisUrl"


class Emulator:
    """Starts and stops the emulator.

    A process may have only one: the emulator sets dummy credentials for the whole process.
    """

    #: What runs: the template's stack, with the changes of the API.
    stack: Stack
    functions: Functions
    #: A line for each function whose init fails.
    problems: list[str]

    def __init__(self, options: Options, *, clock: Clock | None = None) -> None:
        self.options = options
        self.clock: Clock = clock or SystemClock()
        self.journal = Journal(self.clock)
        self.faults = Faults(self.journal, self.clock)
        self.queues = FaultyQueues(self.clock, self.journal)
        self.queues.faults = self.faults
        self.console: Console | None = None
        #: The log groups of functions.
        self.logs = Groups(self.clock.time)
        self.mappings, self.book = EventSourceMappings(), ScheduleBook()
        self._gateways = Gateways(
            options.port, enabled=options.http, door=self._door("an API", pages=True)
        )
        self._launcher = launcher(fresh=options.real_cold_starts)
        self._credentials = ContainerCredentials()
        self._unpacked = UnpackedCode()
        folder = options.persist / "lambda" if options.persist else None
        self._code = CodeStore(self._unpacked, folder)
        self.problems, self._template_notes = [], list[str]()
        self._progress = StartProgress(self._log)
        self._preparation = Preparation(
            options.template.resolve().parent,
            lambda: link_runtime_packages(self._unpacked.folder("runtime")),
            self._log,
            build=options.build,
            others=not options.in_process,
        )
        self._tasks: list[asyncio.Task[Any]] = []
        self._stopping = contextlib.AsyncExitStack()
        #: Gets the exception of a part that ended and that the emulator cannot run without.
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def start(self) -> Addresses:
        """Start everything except for what ``notes`` name.

        If the start fails, everything is stopped again. Raises ``LocalError``.
        """
        try:
            async with self._progress.reported():
                await self._start()
        except BaseException:
            await self.stop()
            raise
        return self.addresses

    @property
    def notes(self) -> list[str]:
        """A line for each resource that is not emulated, and each function whose init fails."""
        return [*self._template_notes, *self.problems]

    def _log(self, line: str, level: str = "INFO") -> None:
        self.journal.record("log", line=line, level=level)

    def _door(self, where: str, **rules: bool) -> Door:
        def refused(why: str) -> None:
            self._log(
                f"{where} refused a request: {why}. If it is yours, start with --allow-host NAME",
                "WARNING",
            )

        return Door(self.options.allowed_hosts, refused=refused, **rules)

    @property
    def remarks(self) -> list[str]:
        """A line for each interpreter or package that differs from AWS's."""
        return self._preparation.remarks

    async def _start(self) -> None:
        allowed = self.options.allow_real_aws
        self._stopping.enter_context(guard.protected(allow_real_aws=allowed))
        if self.options.in_process:
            loop = asyncio.get_running_loop()
            self._stopping.enter_context(captured(self.journal, loop))
        self._stopping.callback(self._unpacked.close)
        self._supervise(asyncio.to_thread(remove_abandoned), "sweep")
        listener = bind(self.options.aws_port, "--aws-port")
        self._stopping.callback(listener.close)
        self.aws_url = url_of(listener)
        self._stopping.push_async_callback(self._gateways.stop)
        self._persist_queues()
        self._keep_logs()
        self.changes = Changes(self._changes_log())
        self.changes.apply = self._apply_changes
        persist, now = self.options.persist, self.clock.time
        self._moto = MotoProcess(
            self.aws_url,
            persist=persist,
            now=now,
            journal=self.journal,
            restarted=self._moto_restarted,
        )
        self._stopping.push_async_callback(self._moto.stop)
        self._control = FunctionOperations(
            self.changes, self._code, self.clock, self._moto.call, self.aws_url
        )
        self._progress.waiting_for("redis-server")
        redis = self.options.persist / "redis" if self.options.persist else None
        self._store = await open_store(self.options.redis_url, directory=redis)
        self._stopping.push_async_callback(self._store.stop)
        self._progress.waiting_for("the template, its code and moto's answers about it")
        self._declared, self._template_notes = await self._build()
        self.changes.declare(declared(self._declared))
        self._code.keep(archives(self.changes))
        self.stack = await self._effective()
        before = stamps(self._reload_paths()) if self.options.reload else {}
        self._ensure_queues()
        self._make_functions()
        await self._serve_aws(listener)
        self._supervise(self._create(), "stack")
        self._supervise(self._moto.ended(), "moto")
        self._supervise(self._fail_without_store(), "store")
        if self.options.warm and not self._too_many_to_warm:
            # https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
            limit = f"the init of functions, each {INIT_LIMIT_S:g} s at most"
            self._progress.waiting_for(limit, self.functions.starting)
            self.problems = await self._warm()
        self._progress.waiting_for("servers and sources")
        await self._apply()
        self.invocations.resume()
        for line in patches.untested():
            self._log(line, "WARNING")
        if self.options.console:
            await self._serve_console()
        if self.options.reload:
            watching = watch(before, self._reload_paths, self._reload, self.clock)
            self._supervise(watching, "reload")
        if self.options.warm and self._too_many_to_warm:
            await self.init_checks.begin(self.stack.functions)

    def _event_log(self) -> EventLog | None:
        if self.options.persist is None:
            return None
        log = EventLog(self.options.persist)
        self._stopping.callback(log.close)
        return log

    def _changes_log(self) -> ChangesLog | None:
        if self.options.persist is None:
            return None
        log = ChangesLog(self.options.persist)
        self._stopping.callback(log.close)
        return log

    def _persist_queues(self) -> None:
        if self.options.persist is not None:
            make_private(self.options.persist)
            log = QueueLog(self.options.persist)
            self._stopping.callback(log.close)
            log.attach(self.queues)

    def _keep_logs(self) -> None:
        if self.options.persist is not None:
            kept = KeptGroups(
                self.logs, self.options.persist, lambda line: self._log(line, "ERROR")
            )
            kept.start()
            self._stopping.push_async_callback(kept.close)

    # The template.

    async def _build(self) -> tuple[Stack, list[str]]:
        """Build the stack, again for as long as moto has new values for it."""
        expanded = await asyncio.to_thread(self._load)
        self._gateways.reserve(served_apis(expanded))
        values = MotoValues(self._moto)
        context = stack.BuildContext(
            self.aws_url,
            self._gateways.base_url,
            values.elsewhere,
            self._unpacked,
            self.options.imports,
            values.look_up,
            self.options.persist / "file-systems" if self.options.persist else None,
        )
        # On a thread: unzipping or hashing an archive takes a while.
        built, notes = await asyncio.to_thread(stack.build, expanded, context)
        while await values.ask(built.name, built.moto_template):
            built, notes = await asyncio.to_thread(stack.build, expanded, context)
        notes += self._moto.notes
        restored = [spec.name for spec in built.functions if spec.snap_start]
        if restored and not self._has_snapshots:
            notes.append(
                f"SnapStart of {', '.join(restored)} is not emulated: each environment has an init "
                "of its own. Snapshots need Linux, and neither --in-process nor "
                "--real-cold-starts"
            )
        prevented = "functions run in one process" if self.options.in_process else None
        specs, not_mounted = await asyncio.to_thread(with_mountable, built.functions, prevented)
        return replace(built, functions=await self._preparation.prepare(specs)), notes + not_mounted

    @property
    def _has_snapshots(self) -> bool:
        forks = isinstance(self._launcher, ForkLauncher) and not self.options.in_process
        return forks and snapstart_available()

    def _load(self) -> template.Template:
        declared = template.declared_parameters(self.options.template)
        given = self.options.parameters
        # Its port differs on each start.
        wanted = STORE_PARAMETER in declared and STORE_PARAMETER not in given
        return template.load(
            self.options.template,
            given,
            stack_name=self.options.stack_name,
            volatile={STORE_PARAMETER: self._store.url} if wanted else None,
        )

    async def _effective(self) -> Stack:
        """The template's stack with the changes of the API, ready to run."""
        self._control.declared = self._declared
        # On a thread: unpacking an archive takes a while.
        stack = await asyncio.to_thread(effective, self._declared, self.changes, self._code)
        return replace(stack, functions=await self._preparation.prepare_made(stack.functions))

    def _ensure_queues(self) -> None:
        # Dead-letter queues must exist before the queues that name them.
        for queue in sorted(self.stack.queues, key=lambda spec: "RedrivePolicy" in spec.attributes):
            self.queues.ensure(queue.name, dict(queue.attributes))

    async def _create(self) -> None:
        await self._moto.create(self.stack.name, self.stack.moto_template)

    async def _fail_without_store(self) -> None:
        await self._store.ended()
        raise LocalError(
            "redis-server ended, and its content is lost without --persist: start again"
        )

    async def _apply(self) -> None:
        self._unpacked.keep(
            {
                each
                for function in self.stack.functions
                for spec in (function, *function.versions.values())
                for each in (spec.code_dir, *spec.layer_dirs)
            }
            | {layer.folder for layer in self.stack.layers if layer.folder}
        )
        services: dict[str, AwsService] = {"sqs": SqsApi(self.queues), "events": self._moto.call}
        await self._gateways.apply(self.stack, self._invoker, self.clock, self.journal, services)
        if self.options.sources:
            await self._sources.apply(self.stack)

    # Functions.

    def _make_functions(self) -> None:
        # One process has one copy of a handler, which takes one invocation at a time.
        maximum = 1 if self.options.in_process else MAX_ENVIRONMENTS
        self.functions = Functions(
            self.stack.functions, self._environment, self.journal, maximum=maximum
        )
        self._invoker = FaultyInvoker(self.functions, self.faults, self.clock)
        self._stopping.push_async_callback(self._launcher.close)
        self._stopping.push_async_callback(self.functions.close)
        self.init_checks = InitChecks(
            self.functions, self._launcher, self.journal, failed=self._fail
        )
        self._stopping.push_async_callback(self.init_checks.stop)

    def _environment(self, spec: FunctionSpec, owner: Owner) -> Environment:
        stream = stream_name(self.clock.time(), spec.version, spec.name if spec.log_group else "")
        environ = guard.function_environment(
            spec,
            log_stream=stream,
            endpoint_url=self.aws_url,
            allow_real_aws=self.options.allow_real_aws,
            snapshot=(
                self._credentials.variables(self.aws_url)
                if spec.snap_start and self._has_snapshots
                else None
            ),
        )
        log = self.logs.environment(spec.log_group_name, stream)
        failure = init_failure(spec)
        if failure is not None:
            return UnrunnableEnvironment(failure, spec, owner=owner, journal=self.journal, log=log)
        if spec.file_systems:
            folders = {path: str(folder) for path, folder in spec.file_systems.items()}
            environ[mounts.VARIABLE] = json.dumps(folders)
        # This process has one module of a name, and the API may change its code.
        if self.options.in_process and spec.program is None and not spec.by_api:
            return InProcessEnvironment(
                spec,
                environ,
                owner=owner,
                journal=self.journal,
                enforce_timeout=not self.options.debug,
                log=log,
            )
        return IsolatedEnvironment(
            spec, environ, owner=owner, launcher=self._launcher, journal=self.journal, log=log
        )

    @property
    def _too_many_to_warm(self) -> bool:
        """Whether there are so many functions that the start does not wait for their init."""
        limit = self.options.warm_limit
        many = limit is not None and len(self.stack.functions) > limit
        return many and not self.options.in_process

    async def _warm(self) -> list[str]:
        """Start an environment of each function; return a line for each whose init fails."""
        failures = await self.functions.warm()
        return [
            import_problem(spec, failures[spec.name])
            for spec in self.stack.functions
            if spec.name in failures and not spec.unrunnable  # else there is a note already
        ]

    # Servers and sources.

    async def _serve_aws(self, listener: socket.socket) -> None:
        asynchronous = self.invocations = AsyncInvocations(
            self._invoker,
            self.functions.specs,
            self.queues,
            self.clock,
            self.journal,
            deliver=self._moto.deliver,
            log=self._event_log(),
        )
        self._stopping.push_async_callback(asynchronous.close)
        endpoint = AwsEndpoint(
            self.queues,
            self.functions,
            fallback=self._moto,
            functions=self.functions.specs,
            asynchronous=asynchronous,
            mounts={
                "scheduler": SchedulerApi(self.book, self.clock),
                "logs": LogsApi(self.logs, self._moto.call, self._log_groups, self.clock),
            },
            operations=(
                self._control,
                LayerOperations(self.changes, self._control, self.clock),
                CodeSigningOperations(self.changes, self.clock),
                SettingOperations(
                    self.changes, self.clock, self._gateways.base_url, self._gateways.reserve_url
                ),
                EventSourceMappingOperations(
                    self.changes, self.mappings, self.queues, self.functions.specs, self.journal
                ),
            ),
            archive=self._control.archive,
            credentials=self._credentials,
        )
        server = HttpServer(endpoint, listener, self._door("the AWS endpoint", buckets=True))
        await server.start()
        self._stopping.push_async_callback(server.stop)
        self._sources = Sources(
            self.queues,
            self._invoker,
            FaultyTicks(asynchronous, self.faults, asyncio.get_running_loop().call_later),
            self.clock,
            self.journal,
            mappings=self.mappings,
            book=self.book,
            failed=self._fail,
        )
        self._stopping.push_async_callback(self._sources.stop)

    def _log_groups(self) -> set[str]:
        return {spec.log_group_name for spec in self.functions.specs.values()}

    async def _serve_console(self) -> None:
        from twolane_local.console.server import attach

        self.console = attach(self)
        self._stopping.push_async_callback(self.console.stop)
        await self.console.start()

    @property
    def addresses(self) -> Addresses:
        """The URLs of everything, after the start."""
        account = f"{self.aws_url}/123456789012"
        return Addresses(
            apis=self._gateways.urls(),
            aws=self.aws_url,
            store=self._store.url,
            store_kind=self._store.kind,
            queues={spec.name: f"{account}/{spec.name}" for spec in self.stack.queues},
            console=self.console.url if self.console is not None else None,
        )

    # Changes while it runs.

    def _reload_paths(self) -> Iterable[Path]:
        runnable = [spec for spec in self._declared.functions if not spec.unrunnable]
        folders = {spec.made_of or spec.code_dir for spec in runnable}
        folders |= {
            folder for spec in runnable for folder in (*spec.layer_dirs, *spec.layer_sources)
        }
        return [*self._stack_files(), *sorted(folders)]

    def _stack_files(self) -> set[Path]:
        """Return the files whose change requires that the stack is built again."""
        found = {self.options.template, *self._declared.files}
        for spec in self._declared.functions:
            found |= {*spec.archives, *([spec.made_of] if spec.made_of else [])}
            found |= {*spec.requirements} if self.options.build else set()
        return found

    async def _moto_restarted(self) -> None:
        """Apply the template again, which may hold ids that moto has made up."""
        async with self.changes.lock:
            await self._apply_files(lambda _: False, template_changed=True)

    async def _reload(self, paths: set[str]) -> None:
        """Apply changed files: running invocations end on the old code, new ones get the new."""
        names = ", ".join(sorted(path.rpartition(os.sep)[2] for path in paths)[:3])
        self._log(f"↻ {names} changed")
        known = [*self.remarks, *self._template_notes]
        if isinstance(self._launcher, ForkLauncher):
            self._launcher.forget()
        if self.console is not None:
            await self.console.parts.application.forget()

        def stale(spec: FunctionSpec) -> bool:
            folders = (spec.code_dir, *spec.layer_dirs, *spec.layer_sources)
            return any(path.startswith(f"{folder}{os.sep}") for path in paths for folder in folders)

        former = dict(self.functions.specs)
        template_changed = bool(paths & set(map(str, self._stack_files())))
        async with self.changes.lock:
            await self._apply_files(stale, template_changed=template_changed)
        if self._too_many_to_warm:
            self.problems = []
            await self.init_checks.begin(
                spec
                for spec in self.stack.functions
                if stale(spec) or former.get(spec.name) != spec
            )
        else:
            self.problems = await self._warm()
        new = (note for note in [*self.remarks, *self._template_notes] if note not in known)
        for line in [*new, *self.problems]:
            self._log(line, "ERROR")

    async def _apply_changes(self) -> None:
        """Run what the API has changed."""
        self.stack = await self._effective()
        self.functions.apply(self.stack.functions)
        await self._apply()

    async def _apply_files(
        self, stale: Callable[[FunctionSpec], bool], *, template_changed: bool
    ) -> None:
        """Apply the changes; if that fails, restore the former stack."""
        former, former_changes = (self._declared, self._template_notes), self.changes.state
        try:
            if template_changed:
                self._declared, self._template_notes = await self._build()
                for line in self.changes.declare(declared(self._declared)):
                    self._log(f"the template replaces what the API made of {line}", "WARNING")
                self.stack = await self._effective()
                self._ensure_queues()
                await self._create()
            self.functions.apply(self.stack.functions, renew=stale)
            await self._apply()
        except Exception as error:  # noqa: BLE001 (an error of ours must not end the emulator either)
            self._log(f"{_error_text(error)} (the former stays)", "ERROR")
        else:
            return
        begun = self._declared is not former[0]
        self._declared, self._template_notes = former
        self.changes.state = former_changes
        try:
            if begun:
                self.stack = await self._effective()
                self._ensure_queues()
            await self._create()  # a template may fail after moto has created it
            self.functions.apply(self.stack.functions, renew=stale)
            if begun:
                await self._apply()
        except Exception as error:  # noqa: BLE001 (as above)
            self._log(
                f"the former stack could not be restored: {_error_text(error)}; start again",
                "ERROR",
            )

    # The end.

    def _supervise(self, work: Coroutine[Any, Any, Any], name: str) -> None:
        """Run it as a task; if it fails, the emulator fails."""
        task = asyncio.ensure_future(work)
        task.set_name(name)
        self._tasks.append(task)

        def done(finished: asyncio.Task[Any]) -> None:
            error = None if finished.cancelled() else finished.exception()
            if error is not None:
                self._fail(error)

        task.add_done_callback(done)

    def _fail(self, error: BaseException) -> None:
        if not self.failed.done():
            self.failed.set_exception(error)

    async def run_until(self, stopped: asyncio.Task[Any]) -> None:
        """Wait for ``stopped``; raises the error if the emulator fails before."""
        waiting: list[asyncio.Future[Any]] = [stopped, self.failed]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.failed.done():
            self.failed.result()

    async def stop(self) -> None:
        """Stop everything that was started."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stopping.aclose()
        if self.failed.done():
            self.failed.exception()  # mark it as retrieved: run_until has raised it
        else:
            self.failed.cancel()


def _error_text(error: Exception) -> str:
    return str(error) if isinstance(error, LocalError) else repr(error)
