"""``async def`` tasks: Celery's own tracer with one ``await`` in it, and its stacks for each task.

Celery calls a task's body and takes what that returns for the result; of an ``async def`` task that
is a coroutine that nobody awaits.

**In a worker function**, coroutine tasks take turns on one event loop. ``awaiting_tracer`` compiles
the source of Celery's tracer again, with ``await`` before the call of the body. Everything around
the body is Celery's own code, in Celery's order. Where the source is not there, or has another
shape, coroutine tasks run one after the other, see ``driven``.

**Elsewhere** (a stock ``celery worker``, ``task.apply()``) the tracer stays as it is, and the body
that it calls waits for the coroutine, which runs on a loop of the process, on a thread of its own.

**Stacks.** ``current_task`` and ``task.request`` are the top of stacks that Celery keeps for each
thread. Coroutines of one thread would find each other's. So these stacks ask a context variable
first, which each coroutine task has a value of its own in, and all that it starts with it.

**Wrappers.** ``autoretry_for`` and ``pydantic`` wrap the body in a function of Celery's that looks
at what it raises or returns; a coroutine does neither when it is called. Here Celery's wrapper gets
the error, or the value, once the coroutine has ended.

**Calls in place.** Celery calls some tasks as functions: those of ``map``, ``starmap`` and
``chunks``, and errbacks that take the request, the error and the traceback. The coroutines that
come of that are awaited one after the other; those of errbacks on the loop of the process, as the
other one may be what is waiting.
"""

from __future__ import annotations

import ast
import inspect
import linecache
import logging
import os
import threading
from concurrent.futures import CancelledError as FutureCancelledError
from contextvars import ContextVar, copy_context
from functools import cache, wraps
from importlib import import_module
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from celery import _state
from celery.app import trace
from celery.backends.base import Backend
from celery.canvas import Signature
from celery.utils import threads
from celery.utils.threads import get_ident

from twolane.patches import replace

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine, Generator
    from types import CellType

logger = logging.getLogger("twolane.patches")

#: Whose stacks Celery's are at the moment; ``None``: the thread's, as in stock Celery.
stack_owner: ContextVar[Owner | None] = ContextVar("twolane_stack_owner", default=None)


class Owner:
    """A run of a task that has stacks of its own."""

    __slots__ = ("stacks",)

    def __init__(self) -> None:
        self.stacks: dict[int, list[Any]] = {}


_MARK = "_twolane_coroutine"


def is_coroutine_task(task: Any) -> bool:
    """True if calling the task's body gives a coroutine."""
    is_one = inspect.iscoroutinefunction
    bodies = task.run, getattr(task, "_orig_run", None)
    return (
        any(map(is_one, bodies))
        or is_one(type(task).__call__)
        or any(_validated(body) is not None for body in bodies)
    )


def _owner() -> object:
    return stack_owner.get() or get_ident()


_FastStack: Any = vars(threads)["_FastLocalStack"]


class OwnedStack(_FastStack):  # type: ignore[misc]
    """Celery's faster stack, each time that of the owner or the thread at hand. Celery's hands out
    the methods of the list that the thread has which asks first.
    """

    def __init__(self) -> None:
        """In each thread, as it first comes here."""
        self.__dict__["stack"] = []

    @property
    def stack(self) -> list[Any]:
        owner = stack_owner.get()
        own: list[Any] = vars(self)["stack"]
        return own if owner is None else owner.stacks.setdefault(id(self), [])

    @property
    def push(self) -> Callable[[Any], None]:
        return self._push

    @property
    def pop(self) -> Callable[[], Any]:
        return self._pop

    def _push(self, item: Any) -> None:
        self.stack.append(item)

    def _pop(self) -> Any:
        return self.stack.pop()


def own_stacks(task: Any) -> None:
    """Give each owner, and each thread, stacks of its own for this task. Idempotent."""
    stacks: tuple[Any, ...] = (vars(_state)["_task_stack"], task.request_stack)
    for stack in stacks:
        if hasattr(stack, "__ident_func__"):
            stack.__ident_func__ = _owner
        else:
            stack.__class__ = OwnedStack


def prepare(task: Any) -> None:
    """Give a coroutine task stacks of its own, and Celery's wrappers. Idempotent."""
    own_stacks(task)
    for name in ("run", "_orig_run"):
        body = getattr(task, name, None)
        cell = _validated(body)
        if cell is not None:
            setattr(task, name, _validating(body, cell))
    _retry_behind(task)
    _await_errbacks()


_returned: ContextVar[tuple[Any] | None] = ContextVar("twolane_returned", default=None)


def _validated(body: Any) -> CellType | None:
    """The place in Celery's pydantic wrapper that holds the body, if that is ``async def``."""
    body = getattr(body, "__func__", body)
    code = getattr(body, "__code__", None)
    if code is None or "task_fun" not in code.co_freevars:
        return None
    cell: CellType = body.__closure__[code.co_freevars.index("task_fun")]
    return cell if inspect.iscoroutinefunction(cell.cell_contents) else None


def _validating(wrapper: Any, cell: CellType) -> Callable[..., Any]:
    """Celery's wrapper, which validates the arguments, and then sees the value."""
    body = cell.cell_contents

    def found(*args: Any, **kwargs: Any) -> Any:
        value = _returned.get()
        return body(*args, **kwargs) if value is None else value[0]

    cell.cell_contents = found

    @wraps(body)
    async def run(*args: Any, **kwargs: Any) -> Any:
        value = await wrapper(*args, **kwargs)
        token = _returned.set((value,))
        try:
            return wrapper(*args, **kwargs)
        finally:
            _returned.reset(token)

    return run


_IN_PLACE = frozenset({"celery.map", "celery.starmap"})


def awaited(name: str, found: Any) -> Any:
    """A coroutine whose result is the one of the body that returned ``found``; ``None`` if that is
    a result itself.
    """
    if type(found) is CoroutineType:
        return found
    if name in _IN_PLACE and any(type(each) is CoroutineType for each in found):
        return _each(found)
    return None


async def _each(found: list[Any]) -> list[Any]:
    return [await each if type(each) is CoroutineType else each for each in found]


_in_errbacks: ContextVar[bool] = ContextVar("twolane_in_errbacks", default=False)


def _await_errbacks() -> None:
    """Have errbacks that Celery calls in place run to their end."""
    if hasattr(Backend._call_task_errbacks, _MARK):  # type: ignore[attr-defined]  # noqa: SLF001
        return
    seams: tuple[Any, Any] = (Backend, Signature)
    errbacks, call = seams[0]._call_task_errbacks, seams[1].__call__  # noqa: SLF001

    @wraps(errbacks)
    def call_task_errbacks(*args: Any, **options: Any) -> Any:
        token = _in_errbacks.set(True)
        try:
            return errbacks(*args, **options)
        finally:
            _in_errbacks.reset(token)

    @wraps(call)
    def called(*args: Any, **options: Any) -> Any:
        found = call(*args, **options)
        if _in_errbacks.get() and type(found) is CoroutineType:
            return process_loop.run(found)
        return found

    setattr(call_task_errbacks, _MARK, True)
    replace(Backend, "_call_task_errbacks", call_task_errbacks)
    replace(Signature, "__call__", called)


_raised: ContextVar[BaseException] = ContextVar("twolane_raised")


def _retry_behind(task: Any) -> None:
    """Have Celery's ``autoretry_for`` see what the coroutine raises."""
    body = getattr(task, "_orig_run", None)
    if not inspect.iscoroutinefunction(body) or inspect.iscoroutinefunction(task.run):
        return
    task._orig_run, task.run = _raises, _seen_by(task.run, body)  # noqa: SLF001 - where Celery's wrapper finds the body


def _tell_monitors(name: str, task: Any, **options: Any) -> None:
    """Have a monitor that replaces Celery's tracer (Sentry) see what the coroutine raises: it wraps
    the body as it makes the tracer.
    """
    build, body = trace.build_tracer, task.run
    code = getattr(inspect.unwrap(build), "__code__", None)
    if getattr(code, "co_filename", None) == trace.__file__:
        return
    own = vars(task).get("run")
    task.run = _raises
    build(name, task, **options)
    if task.run is not _raises:
        task.run = _seen_by(task.run, body)
    elif own is None:
        del task.run
    else:
        task.run = own


def _raises(*_: Any, **__: Any) -> Any:
    raise _raised.get()


def _seen_by(decide: Callable[..., Any], body: Callable[..., Any]) -> Callable[..., Any]:
    """The coroutine function ``body``, whose error goes through ``decide``, a wrapper of
    ``_raises``.
    """

    @wraps(body)
    async def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return await body(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 - Celery's wrapper raises it, or what comes of it
            token = _raised.set(error)
            try:
                return decide(*args, **kwargs)
            finally:
                _raised.reset(token)

    return run


class Body:
    """A task's coroutine while it runs, which can be interrupted at its next ``await``.

    An ``Exception`` is raised there, as a soft time limit is. Any other error cancels the coroutine
    first, as ``asyncio`` does it, and is what comes out of it in the end. ``entered`` and ``left``
    are called around each step.
    """

    __slots__ = ("_coroutine", "_pending", "_reason", "ended", "task")

    def __init__(self, coroutine: Any) -> None:
        self._coroutine = coroutine
        self._pending: list[BaseException] = []
        self._reason: BaseException | None = None
        self.task: asyncio.Task[Any] | None = None
        self.ended = False

    def interrupt(self, error: BaseException) -> None:
        """On the loop's thread: raise ``error`` in the coroutine, if it still runs."""
        if self.ended:
            return
        self._pending.append(error)
        if self.task is not None:
            self.task.cancel()

    @property
    def is_cancelled(self) -> bool:
        """True if it was cancelled, and goes on nevertheless, or has not heard of it yet."""
        return self._reason is not None or any(
            not isinstance(error, Exception) for error in self._pending
        )

    def __await__(self) -> Generator[Any, Any, Any]:
        from asyncio import current_task

        self.task = current_task()
        if self._pending:
            self._coroutine.close()
            self.ended = True
            raise self._pending.pop(0)
        return self

    def __iter__(self) -> Body:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def send(self, value: Any) -> Any:
        return self._step(self._coroutine.send, value)

    def throw(self, error: Any, value: Any = None, _: Any = None) -> Any:
        if value is not None:
            error = value
        elif isinstance(error, type):
            error = error()
        from asyncio import CancelledError

        if isinstance(error, CancelledError) and self._pending:
            pending = self._pending.pop(0)
            if isinstance(pending, Exception):
                if self.task is not None:
                    self.task.uncancel()
                error = pending
            else:
                self._reason = pending
        return self._step(self._coroutine.throw, error)

    def close(self) -> None:
        self.ended = True
        self._coroutine.close()

    def entered(self) -> None:
        """A step of the coroutine begins."""

    def left(self) -> None:
        """A step of the coroutine has ended."""

    def _step(self, go: Callable[[Any], Any], value: Any) -> Any:
        self.entered()
        try:
            return go(value)
        except StopIteration:
            self.ended = True
            if self._reason is not None:  # it was cancelled: what it returns comes too late
                raise self._reason from None
            raise
        except BaseException as error:
            self.ended = True
            from asyncio import CancelledError

            cancelled = isinstance(error, CancelledError)
            if self._reason is not None and error is not self._reason:
                raise self._reason from (None if cancelled else error)
            if cancelled:
                # Its own, or of something that it awaited: to Celery, a failure like any other.
                raise FutureCancelledError(*error.args) from error
            raise
        finally:
            self.left()


def refuse_generators(task: Any) -> Any:
    """A body that says why an async generator cannot be a task."""
    if not inspect.isasyncgenfunction(task.run):
        return task.run

    @wraps(task.run)
    def refused(*_: Any, **__: Any) -> Any:
        raise TypeError(
            f"the task {task.name} is an async generator (an async def with yield): Celery has one "
            "result for a task. Return a list, or publish a task for each value"
        )

    return refused


def awaiting_tracer(
    name: str, task: Any, enter: Callable[[Any], Body], **options: Any
) -> Callable[..., tuple[None, None, None, Coroutine[Any, Any, Any]]]:
    """Celery's tracer of a coroutine task, where one ``can_await``. As Celery's, it is called with
    a request; in the place of the text of the result stands a coroutine, whose result is what a
    tracer returns. ``enter`` makes a body of the task's coroutine.
    """
    build = _awaiting_build()
    prepare(task)
    _tell_monitors(name, task, **options)
    tracer = build(name, task, **options)
    called = tracer.__closure__[tracer.__code__.co_freevars.index("fun")]
    fun = called.cell_contents

    async def plain(value: Any) -> Any:
        return value

    def begin(*args: Any, **kwargs: Any) -> Any:
        found = fun(*args, **kwargs)
        if inspect.iscoroutine(found):
            return enter(found)
        return found if inspect.isawaitable(found) else plain(found)

    called.cell_contents = begin

    def traces(*args: Any, **kwargs: Any) -> Any:
        return None, None, None, tracer(*args, **kwargs)

    return traces


def can_await() -> bool:
    """``False``: Celery's source is not there, or not as tested; one warning says so."""
    return _awaiting_build() is not None


@cache
def _awaiting_build() -> Any:
    try:
        # By its name: what monitors put in its place is not Celery's tracer.
        lines = linecache.getlines(trace.__file__)
        first = lines.index(next(line for line in lines if line.startswith("def build_tracer(")))
        source = lines[first : first + 1]
        for line in lines[first + 1 :]:
            if line[:1].isalpha():
                break
            source.append(line)
        tree = ast.parse("".join(source))
        ast.increment_lineno(tree, first)
        awaiting = _Awaiting()
        tree = ast.fix_missing_locations(awaiting.visit(tree))
        if awaiting.found != 1:
            raise ValueError(f"the body is called at {awaiting.found} places")
        made: dict[str, Any] = {}
        # Celery's own globals, so that what is replaced there is replaced here.
        exec(compile(tree, str(trace.__file__), "exec"), vars(trace), made)  # noqa: S102 - Celery's code
        return made["build_tracer"]
    except (StopIteration, TypeError, ValueError, SyntaxError) as error:
        logger.warning(
            "! Celery's tracer cannot be made to await (%s): async def tasks run one after the "
            "other. Ship Celery's .py files, and a version that twolane was tested with", error,
        )  # fmt: skip
        return None


class _Awaiting(ast.NodeTransformer):
    """``trace_task`` as a coroutine function that awaits the body."""

    def __init__(self) -> None:
        self.found = 0

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        if node.name != "trace_task":
            return self.generic_visit(node)
        changed = self.generic_visit(node)
        fields = {name: getattr(changed, name) for name in node._fields}
        return ast.copy_location(ast.AsyncFunctionDef(**fields), node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if not (isinstance(node.func, ast.Name) and node.func.id == "fun"):
            return node
        self.found += 1
        return ast.copy_location(ast.Await(node), node)


class ProcessLoop:
    """The event loop of a process, on a thread of its own, for bodies that threads wait for."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, coroutine: Any) -> Any:
        """Wait for a coroutine that runs there; what interrupts the wait is raised in it."""
        body = Body(coroutine)
        context = copy_context()
        loop = self._running()
        over = threading.Event()
        ends: list[asyncio.Task[Any]] = []

        async def runs() -> Any:
            return await body

        def ended(task: asyncio.Task[Any]) -> None:
            ends.append(task)
            over.set()

        def start() -> None:
            loop.create_task(runs(), context=context).add_done_callback(ended)

        loop.call_soon_threadsafe(start)
        while not over.is_set():
            try:
                over.wait()
            except BaseException as error:  # noqa: BLE001 - a time limit: it is the coroutine's
                loop.call_soon_threadsafe(body.interrupt, error)
        return ends[0].result()

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._loop is None:
                import asyncio

                self._loop = asyncio.new_event_loop()
                threading.Thread(
                    target=self._loop.run_forever, name="twolane-coroutines", daemon=True
                ).start()
            return self._loop

    def forget(self) -> None:
        """In a forked process: the thread is the parent's."""
        self._lock, self._loop = threading.Lock(), None


process_loop = ProcessLoop()
os.register_at_fork(after_in_child=process_loop.forget)


def driven(name: str, tracer: Any, drive: Callable[[Any], Any]) -> Any:
    """A tracer of Celery's whose body waits for its coroutine, by ``drive``."""
    free = getattr(getattr(tracer, "__code__", None), "co_freevars", ())
    if "fun" not in free:
        return tracer  # it waits already, or is another's, who has put it around Celery's
    called = tracer.__closure__[free.index("fun")]
    fun = called.cell_contents

    def body(*args: Any, **kwargs: Any) -> Any:
        found = fun(*args, **kwargs)
        coroutine = awaited(name, found)
        return found if coroutine is None else drive(coroutine)

    called.cell_contents = body

    def traces(*args: Any, **kwargs: Any) -> Any:
        token = stack_owner.set(Owner())
        try:
            return tracer(*args, **kwargs)
        finally:
            stack_owner.reset(token)

    return traces


def install() -> None:
    """Have each tracer that Celery makes in this process run coroutine tasks. Idempotent."""
    tracing: Any = trace
    stock = tracing.build_tracer
    if hasattr(stock, _MARK):
        return

    @wraps(stock)
    def build_tracer(name: str, task: Any, *args: Any, **options: Any) -> Any:
        task.run = refuse_generators(task)
        if not (name in _IN_PLACE or is_coroutine_task(task)):
            return stock(name, task, *args, **options)
        prepare(task)
        return driven(name, stock(name, task, *args, **options), process_loop.run)

    setattr(build_tracer, _MARK, True)
    replace(tracing, "build_tracer", build_tracer)
    consumer: Any = import_module("celery.worker.consumer.consumer")
    replace(consumer, "build_tracer", build_tracer)
