"""Parts of kombu and Celery that publishers use, replaced by name and imported on first use.

**Result backends.** ``send_task`` touches ``app.backend`` on each publish: to subscribe to a result
that may never be read (Redis; 19 s of retries if it is down), and to put the backend into the
``AsyncResult`` that it returns. Merely making the backend imports redis (60 ms), or boto3 for
DynamoDB (150 ms), and scans the metadata of every installed package for plug-ins. A publisher needs
none of it: ``LazyBackend`` answers those touches, and becomes the stock backend at any other.

**Groups.** Celery publishes a group's tasks one by one, over one producer, in
``group._apply_tasks``; it has no setting that makes them a batch (celery 5.7). That one method is
wrapped: all it does runs inside a batch of kombu's producer. Groups in groups share the outermost
batch. Of a group that is a generator the first task leaves at once, as with a stock publisher: the
next may take long to be drawn.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.app import backends
from celery.app.events import Events
from celery.canvas import group
from celery.utils.imports import instantiate, symbol_by_name
from kombu import transport as kombu_transport
from kombu.utils.objects import cached_property

from twolane.environment import snapshot
from twolane.errors import ConfigurationError
from twolane.patches import replace
from twolane.patches.clients import guard, keep_connections, noting_trouble, stores_more
from twolane.patches.versions import batch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_STOCK_CONTROL = "celery.app.control:Control"
_CONTROL = "twolane.worker.control:Control"
_REDIRECTED = "_twolane_redirected"


def take_publishes(transport: str) -> None:
    """Make every ``sqs://`` broker open the transport of this name. Idempotent."""
    for alias in ("sqs", "SQS"):
        replace(kombu_transport.TRANSPORT_ALIASES, alias, transport)
        # A name that was resolved before us is kept there.
        vars(kombu_transport)["_transport_cache"].pop(alias, None)


def redirect_names() -> None:
    """Put in the store-backed ``app.control``, events over Redis, and our result backends.

    Those are Celery's own, with duplicate-safe chords on DynamoDB and fewer round trips to Redis.

    They are for what an application opens from now on; with a broker or a result backend of another
    kind they change nothing, nor does an application with a ``control`` class of its own lose it.
    Idempotent.
    """
    replace(Events, "dispatcher_cls", "twolane.worker.events:Dispatcher")
    replace(Events, "receiver_cls", "twolane.worker.events:Receiver")
    receivers: Any = sys.modules.get("celery.events.receiver")
    if receivers is not None:
        _redirect(receivers.EventReceiver)
    replace(backends.BACKEND_ALIASES, "dynamodb", "twolane.worker.dynamodb_backend:DynamoDBBackend")
    for scheme in ("redis", "rediss"):
        replace(backends.BACKEND_ALIASES, scheme, "twolane.worker.redis_backend:RedisBackend")
    sentinel = "twolane.worker.redis_backend:SentinelBackend"
    replace(backends.BACKEND_ALIASES, "sentinel", sentinel)
    # An application copies the class's control_cls when it is made, which is before us.
    if getattr(vars(Celery)["control"], "func", None) is not _control:
        control: Any = cached_property(_control)
        control.__set_name__(Celery, "control")
        replace(Celery, "control", control)


def _control(app: Any) -> Any:
    chosen = app.control_cls
    return instantiate(_CONTROL if chosen == _STOCK_CONTROL else chosen, app=app)


def _redirect(receiver: Any) -> None:
    """Flower takes Celery's receiver by its own name, and long before an application is loaded."""
    stock = receiver.__init__
    if hasattr(stock, _REDIRECTED):
        return

    def init(self: Any, channel: Any, *args: Any, app: Any = None, **kwargs: Any) -> None:
        listening_to = symbol_by_name("twolane.worker.events:listening_to")
        stock(self, listening_to(app or self.app, channel), *args, app=app, **kwargs)

    setattr(init, _REDIRECTED, True)
    replace(receiver, "__init__", init)


#: Backends that keep results under the task's id, where asking late is as good as asking early.
#: ``rpc://`` is not among them: its queue must be there before the result.
LAZY = frozenset(
    {"redis", "rediss", "sentinel", "dynamodb", "s3", "cache", "db", "mongodb", "file"}
)

#: Why there are no results over ``rpc://``, and what to set.
RPC_REFUSED = (
    "rpc://, which sends each result to a queue that one process makes for itself and reads: a "
    "function is no such process, and SQS would get a queue for each environment"
)
RPC_REMEDY = (
    "set result_backend (or the variable CELERY_RESULT_BACKEND) to redis://…, dynamodb://… or "
    "another store"
)


def is_rpc(app: Any) -> bool:
    chosen = getattr(app, "backend_cls", None) or app.conf.result_backend
    return isinstance(chosen, str) and chosen.partition(":")[0] == "rpc"


def refuse_rpc(app: Any) -> None:
    """Raise ``ConfigurationError`` for results over ``rpc://``."""
    if is_rpc(app):
        raise ConfigurationError(f"Celery's result backend is {RPC_REFUSED}; {RPC_REMEDY}")


_LAZY = "_twolane_lazy"


class LazyBackend:
    """Stands for what ``make`` makes, once for each thread or once for all, as stock has it."""

    #: Celery keeps a thread-safe backend on the app; ours leads each thread to its own.
    thread_safe = True
    __slots__ = ("__weakref__", "_local", "_make", "_shared")

    def __init__(self, make: Callable[[], Any]) -> None:
        own = {"_make": make, "_local": threading.local(), "_shared": None}
        for name, value in own.items():
            object.__setattr__(self, name, value)
        snapshot.holds(self)

    def let_go(self) -> None:
        """Close the stock backend; the next use makes another."""
        real = self._made()
        if real is None:
            return
        from twolane.patches.snapshot import close_backend

        close_backend(real)
        object.__setattr__(self, "_shared", None)
        object.__setattr__(self, "_local", threading.local())

    def on_task_call(self, producer: Any, task_id: str) -> Any:
        """Subscribe early, as stock does, where there is a backend and a process that stays; else
        whoever waits for the result subscribes first, then looks.
        """
        real = self._made()
        if real is None or "AWS_LAMBDA_FUNCTION_NAME" in os.environ:
            return {}
        return real.on_task_call(producer, task_id)

    def add_pending_result(self, result: Any, weak: bool = False, **options: Any) -> Any:
        """``result.then(…)``: kept, weakly if so asked, until there is a backend to tell of it."""
        real = self._made()
        if real is not None:
            return real.add_pending_result(result, weak=weak, **options)
        kept = weakref.ref(result) if weak else lambda: result
        self._pending()[id(result)] = (kept, weak)
        return result

    def remove_pending_result(self, result: Any) -> Any:
        """Each ``AsyncResult`` calls this as it dies; that must not make a backend."""
        real = self._made()
        if real is None:
            self._pending().pop(id(result), None)
            return result
        return real.remove_pending_result(result)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real(), name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._real(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._real(), name)

    def __repr__(self) -> str:
        return f"<LazyBackend: {self._made() or 'nobody asked for a result yet'}>"

    def _made(self) -> Any:
        return self._shared or getattr(self._local, "real", None)

    def _pending(self) -> dict[int, tuple[Callable[[], Any], bool]]:
        pending: dict[int, tuple[Callable[[], Any], bool]]
        pending = vars(self._local).setdefault("pending", {})
        return pending

    def _real(self) -> Any:
        real = self._made()
        if real is None:
            real = self._make()
            if real.thread_safe:
                object.__setattr__(self, "_shared", real)
            self._local.real = real
            for kept, weak in vars(self._local).pop("pending", {}).values():
                if (result := kept()) is not None:
                    real.add_pending_result(result, weak=weak)
        return real


def make_backends_lazy(more: Callable[[Any], dict[str, str]]) -> None:
    """Make each app's backend lazy, if it can be; ``more`` is stored with each state."""
    stock = vars(Celery)["_get_backend"]
    if hasattr(stock, _LAZY):
        return

    def get_backend(self: Celery) -> Any:
        chosen = getattr(self, "backend_cls", None) or self.conf.result_backend
        if not chosen:
            # Stock would look through the metadata of every package for one named "disabled".
            return _without_results(self)
        scheme = chosen.partition(":")[0].partition("+")[0] if isinstance(chosen, str) else ""
        if scheme not in LAZY:
            if on_sqs(self):
                refuse_rpc(self)
            return guard(stock(self))

        def make() -> Any:
            with noting_trouble():  # that of a database connects as it is made
                return guard(keep_connections(stores_more(stock(self), more)))

        return LazyBackend(make)

    setattr(get_backend, _LAZY, True)
    replace(Celery, "_get_backend", get_backend)


def _without_results(app: Any) -> Any:
    """Celery's backend of an application without one, whose errors say which application it is."""
    from celery.backends.base import DisabledBackend

    class NoBackend(DisabledBackend):
        def _why(self, *_: Any, **__: Any) -> Any:
            raise NotImplementedError(
                f"The Celery application {app.main or '(no name)'!r} has no result backend, so it "
                "cannot say what became of a task. Set result_backend or the variable "
                "CELERY_RESULT_BACKEND. If your application has one, this is another application: "
                "name it, as in celery.AsyncResult(id) or AsyncResult(id, app=celery), or call "
                "celery.set_default() where it is made"
            )

        get_state = get_status = get_result = get_traceback = get_task_meta = _why
        get_task_meta_for = wait_for = get_many = wait_for_pending = iter_native = _why

    NoBackend.__name__ = NoBackend.__qualname__ = DisabledBackend.__name__
    return NoBackend(app=app)


_BATCHED = "_twolane_batched"


def batch_groups() -> None:
    """Wrap ``group._apply_tasks`` once."""
    stock: Callable[..., Iterator[Any]] = vars(group)["_apply_tasks"]
    if hasattr(stock, _BATCHED):
        return

    def apply_tasks(
        self: Any, tasks: Any, producer: Any = None, app: Any = None, *args: Any, **kwargs: Any
    ) -> Iterator[Any]:
        app = app or self.app
        with app.producer_or_acquire(producer) as shared:
            # On other brokers: stock behaviour to the letter.
            light = shared.connection.transport.driver_type == "sqs"
            if light:
                # Celery keeps a generator that may have more in a list of its own
                # (``celery.utils.functional.regen``, celery 5.7), which tells nobody how far it is.
                shared.channel.drawing = getattr(self.tasks, "_regen__done", True) is False
            with batch(shared) if light else nullcontext():
                yield from stock(self, tasks, shared, app, *args, **kwargs)

    setattr(apply_tasks, _BATCHED, True)
    replace(group, "_apply_tasks", apply_tasks)


def on_sqs(app: Celery) -> bool:
    url: Any = app.conf.broker_write_url
    return str(url[0] if isinstance(url, list | tuple) else url).startswith("sqs")
