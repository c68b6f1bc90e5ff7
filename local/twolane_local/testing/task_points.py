"""The points inside a task of a test's stack, at which ``twolane.faults`` can strike.

What an application's task does cannot be seen from here: its whole body counts as its effect.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from unittest import mock

from celery import states
from celery.app import trace

from twolane.worker.work import Worker
from twolane_local.clock.threads import EnvironmentKilled, current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twolane_local.clock import Clock
    from twolane_local.clock.threads import Process
    from twolane_local.faults.injection import Faults


#: Points at which nobody asks in a test's stack, each with where it is asked.
UNMOUNTED = {
    "clock": "`twolane simulate`; in a test, one clock is the whole process's, and "
    "twolane.clock moves it"
}

#: The innermost stack's. Tracers outlive the stack that they were made in.
_mounted: list[Points] = []

#: The task that a worker is about to run in this thread.
_starting: ContextVar[Any] = ContextVar("twolane_starting", default=None)


@contextmanager
def mounted(points: Points) -> Iterator[None]:
    """Tasks that workers run inside of the block stop at these points."""
    with ExitStack() as undo:
        build = _build(trace.build_tracer)
        undo.enter_context(mock.patch.object(trace, "build_tracer", build))
        undo.enter_context(mock.patch.object(Worker, "run", _renewed(Worker.run)))
        _mounted.append(points)
        undo.callback(_mounted.remove, points)
        yield


def _at(point: str, task: str) -> None:
    if _mounted:
        _mounted[-1].inside(point, task)


def _renewed(run: Callable[..., Any]) -> Callable[..., Any]:
    """Tracers that were made before there was a stack are made anew."""

    @functools.wraps(run)
    def call(worker: Any, *args: Any, **options: Any) -> Any:
        strategies, tasks = worker.consumer.strategies, worker.consumer.app.tasks
        for name in [name for name in strategies if not hasattr(tasks[name].__trace__, "points")]:
            del strategies[name]
        return run(worker, *args, **options)

    return call


def _build(stock: Callable[..., Any]) -> Callable[..., Any]:
    def build(name: str, task: Any, *args: Any, **options: Any) -> Any:
        if options.get("eager"):  # no worker runs it
            return stock(name, task, *args, **options)
        custom = trace.task_has_custom(task, "__call__")
        body = type(task).__call__.__get__(task) if custom else task.run

        run = _within_autoretry(task, body) if hasattr(task, "_orig_run") else _around(task, body)
        # Celery's tracer takes hold of the task's body as it is made.
        with (
            mock.patch.object(task, "run", run),
            mock.patch.object(trace, "task_has_custom", _but_call(trace.task_has_custom)),
        ):
            inner = stock(name, task, *args, **options)

        @functools.wraps(inner)
        def traced(uuid: str, *args: Any, **options: Any) -> Any:
            _at("task.begins", uuid)
            told = inner(uuid, *args, **options)
            info = told[1]
            if info is None or info.state == states.FAILURE:
                _at("result.stored", uuid)
            return told

        traced.points = True  # type: ignore[attr-defined]
        return traced

    return build


def _around(task: Any, body: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(body)
    def run(*given: Any, **named: Any) -> Any:
        identity = str(task.request.id)
        _at("effect.before", identity)
        value = body(*given, **named)
        _at("effect.after", identity)
        return value

    return run


def _within_autoretry(task: Any, body: Callable[..., Any]) -> Callable[..., Any]:
    """What the application's function raises is for Celery's autoretry to see, so what goes wrong
    in its place is raised there as well: https://docs.celeryq.dev/en/stable/userguide/tasks.html#automatic-retry-for-known-exceptions
    """
    function = task._orig_run  # noqa: SLF001 - where Celery keeps it, and looks for it at each call
    stock = getattr(function, "stock", function)
    around = _around(task, stock)

    @functools.wraps(stock)
    def either(*given: Any, **named: Any) -> Any:
        traced = _starting.get() is task
        _starting.set(None)  # what it calls by itself is no occasion
        return (around if traced else stock)(*given, **named)

    either.stock = stock  # type: ignore[attr-defined]
    task._orig_run = either  # noqa: SLF001 - likewise

    @functools.wraps(body)
    def run(*given: Any, **named: Any) -> Any:
        token = _starting.set(task)
        try:
            return body(*given, **named)
        finally:
            _starting.reset(token)

    return run


def _but_call(stock: Callable[[Any, str], bool]) -> Callable[[Any, str], bool]:
    return lambda task, name: name != "__call__" and stock(task, name)


@dataclass(frozen=True)
class Points:
    """Faults inside tasks: ``inside`` is called as a task begins, before and after its effect.
    ``frozen`` has the time at which each frozen process goes on, in epoch seconds.
    """

    faults: Faults
    clock: Clock
    frozen: dict[Process, float] = field(default_factory=dict)

    def inside(self, point: str, task: str) -> None:
        """Run the faults of this point; called on the environment's thread."""
        process = current.get()
        if process is None:
            return
        process.check()
        for fault in self.faults.at(point, task):
            match fault.fault.name:
                case "environment.frozen" | "environment.frozen-after-effect":
                    self.freeze(process, float(fault.value("freeze_s")))
                case "environment.timeout":
                    process.sleep(float(fault.value("hang_s")))
                case "task.slow":
                    process.sleep(float(fault.value("seconds")))
                case "task.memory-error":
                    raise MemoryError
                case _:
                    process.die()

    def freeze(self, process: Process, seconds: float) -> None:
        """Freeze the machine: alarms that are due meanwhile are raised when it goes on."""
        until = self.clock.time() + seconds
        held: BaseException | None = None
        self.frozen[process] = until
        try:
            while (left := until - self.clock.time()) > 1e-6:
                try:
                    process.sleep(left)
                except EnvironmentKilled:
                    raise
                except BaseException as alarm:  # noqa: BLE001 - raised below, when it can be felt
                    held = held or alarm
        finally:
            self.frozen.pop(process, None)
        if held is not None:
            raise held
