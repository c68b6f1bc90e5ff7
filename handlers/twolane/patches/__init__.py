"""Every place where something of Celery's, kombu's, Starlette's … is replaced.

``install`` puts a side's patches in, once for the process; ``undo`` takes all of them out again.
``catalogue`` names each, says why it is there, and lists the private names that the runtime uses
besides; a test holds each entry against the installed versions.

- ``publishing``: kombu's transport for SQS, Celery's groups, backends, events and ``app.control``;
- ``tracing``: the context, the texts and the tracebacks that Celery's tracer makes for each task;
- ``coroutines``: the same tracer for ``async def`` tasks, and the stacks that it keeps;
- ``serving``: Starlette's background tasks, and the moment at which ``awslambdaric`` has answered;
- ``clients``: what single result backends and clients of databases are given;
- ``snapshot``: what Celery, kombu and boto3 keep open, before a snapshot and after it;
- ``versions``: what older versions of Celery and kombu lack of what the runtime asks for.
"""

from __future__ import annotations

import logging
import re
import sys
from functools import wraps
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import ContextVar

logger = logging.getLogger("twolane.patches")

#: The versions that the patches were tested with: from the first, up to and without the second.
#: Mangum, which does not say its version, is bounded by the requirements of the package alone.
TESTED: dict[str, tuple[str, str]] = {
    "awslambdaric": ("3.0", "5"),
    "billiard": ("4.2", "4.4"),
    "botocore": ("1.34", "2"),
    "celery": ("5.4", "5.8"),
    "kombu": ("5.4", "5.8"),
    "redis": ("4.5", "9"),
    "starlette": ("0.27", "2"),
}

_ABSENT: Any = object()
_undo: list[Callable[[], None]] = []
_said: set[str] = set()


def install(
    side: Literal["publisher", "worker", "api"],
    *,
    transport: str = "",
    more: Callable[[Any], dict[str, str]] = lambda _: {},
    lane: ContextVar[Any] | None = None,
) -> None:
    """Put in the patches of one side of the process. Idempotent.

    ``transport``: the name of a publisher's transport; ``more``: what is stored with every state of
    a task, of its request; ``lane``: of the request that an API serves.
    """
    if side == "publisher":
        from twolane.patches import publishing

        publishing.take_publishes(transport)
        publishing.batch_groups()
        publishing.make_backends_lazy(more)
        publishing.redirect_names()
    elif side == "worker":
        from twolane.patches import tracing

        tracing.replace_context()
        tracing.keep_tracebacks()
        run_coroutine_tasks()
    elif lane is not None:
        from twolane.patches import serving

        serving.enter_lanes(lane)
    warn_of_untested()


def run_coroutine_tasks() -> None:
    """Have ``async def`` tasks run in a stock ``celery worker`` and by ``task.apply()``. Costs next
    to nothing in a process that does neither.
    """
    from celery import signals

    def install_coroutines(**_: Any) -> None:
        from twolane.patches import coroutines

        coroutines.install()

    signals.celeryd_init.connect(install_coroutines, weak=False, dispatch_uid="twolane.coroutines")
    task: Any = getattr(sys.modules.get("celery.app.task"), "Task", None)
    stock = getattr(task, "apply", None)
    if stock is None or hasattr(stock, "__wrapped__"):
        return

    @wraps(stock)
    def apply(*args: Any, **options: Any) -> Any:
        install_coroutines()
        return stock(*args, **options)

    replace(task, "apply", apply)


def undo() -> None:
    """Put back what ``install`` has replaced, the latest first.

    What single objects were given (a result backend, a client) goes with them.
    """
    while _undo:
        _undo.pop()()


def replace(owner: Any, name: str, value: object) -> None:
    """Put a value in the place of another one, in a class, a module or a dictionary."""
    before = (owner if isinstance(owner, dict) else vars(owner)).get(name, _ABSENT)
    if before is value or (isinstance(value, str) and before == value):
        return
    _put(owner, name, value)
    _undo.append(lambda: _put(owner, name, before))


def _put(owner: Any, name: str, value: object) -> None:
    if isinstance(owner, dict):
        owner.pop(name, None) if value is _ABSENT else owner.update({name: value})
    elif value is _ABSENT:
        delattr(owner, name)
    else:
        setattr(owner, name, value)


def warn_of_untested() -> None:
    """Say once of each library in this process that its version is not one of the tested ones."""
    for library, (first, end) in TESTED.items():
        version = getattr(sys.modules.get(library), "__version__", None)
        if library in _said or not isinstance(version, str):
            continue
        _said.add(library)
        if not release(first) <= release(version) < release(end):
            logger.warning(
                "! %s %s is not a version that twolane was tested with: it replaces parts of it "
                "that may have changed. Install %s>=%s,<%s, or run twolane's tests against yours",
                library, version, library, first, end,
            )  # fmt: skip


def release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
