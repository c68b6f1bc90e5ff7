"""Parts of Celery's tracer that cost less than its own: a task's context, texts and tracebacks.

**Context.** Celery's ``Context`` finds a message's own headers by taking away all that it knows by
itself, and puts the names of these together anew for each task: a tenth of the cost of a no-op
task.

**Text.** A result becomes a text by a walk through all that may be nested in it; for a plain value
``repr`` makes the same.

**Tracebacks.** Celery's tracer hands a failure or a retry to another process, so billiard copies
each frame of the traceback into objects that can be pickled, with every position of the frame's
code: a third of a millisecond a frame in a function as long as Celery's tracer, ten times the cost
of the task itself. The text costs as much again: to underline a part of a line, Python parses it. A
function's code never changes, so its copy, and the text of each place in it, are made once. That
halves "a task that fails" in ``benchmarks/worker.py``.
"""

from __future__ import annotations

import time
import traceback
from typing import TYPE_CHECKING, Any

from billiard import einfo
from celery.app import trace
from celery.app.task import Context
from celery.utils.saferepr import saferepr

from twolane.patches import replace
from twolane.patches.clients import FENCE, STARTED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import CodeType, TracebackType

    Place = tuple[int, int, int]

_Stock: Any = Context

#: What Celery's own method takes away (celery 5.7).
_KNOWN = frozenset(vars(Context)) | {
    "lang", "task", "argsrepr", "kwargsrepr", "compression", FENCE,
}  # fmt: skip


class TaskContext(_Stock):  # type: ignore[misc]
    """``task.request`` in a worker, with the task's start. The fence is beside the attributes in
    ``vars(task.request)``, which an application may want to write as JSON.
    """

    __slots__ = (FENCE,)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        known = self.__dict__
        setattr(self, FENCE, known.pop(FENCE, None))
        known[STARTED] = time.time()

    def _get_custom_headers(self, request: Mapping[str, Any], **more: Any) -> dict[str, Any] | None:
        if _KNOWN.issuperset(request) and _KNOWN.issuperset(more):
            return None
        return {key: value for key, value in {**request, **more}.items() if key not in _KNOWN}


#: Nothing is nested in them, and none is longer than what Celery cuts a text to.
_PLAIN = frozenset({bool, float, type(None)})


def short_repr(value: Any, *args: Any, **kwargs: Any) -> str:
    """Celery's ``saferepr``."""
    return repr(value) if type(value) in _PLAIN else saferepr(value, *args, **kwargs)


def replace_context() -> None:
    """Let Celery's tracer make ours. Idempotent."""
    tracing: Any = trace
    # Celery takes what its class does not know for a header of the message, and publishes it again.
    if FENCE not in vars(Context):
        replace(Context, FENCE, None)
    replace(tracing, "Context", TaskContext)
    replace(tracing, "saferepr", short_repr)


#: How many functions, and places in them, are remembered: more than a worker's tracebacks go
#: through, unless it makes its code as it runs.
_MOST = 128
_MOST_PLACES = 1024
#: Python tells how often a line is repeated once it is there for the fourth time.
_REPEATED = 3
_MARK = "_twolane_kept"


def keep_tracebacks() -> None:
    """Have billiard keep its copies and texts. Idempotent."""
    frame: Any = vars(einfo)["_Frame"]
    if not hasattr(frame.Code, _MARK):
        copied = kept(frame.Code)
        setattr(copied, _MARK, True)
        replace(frame, "Code", staticmethod(copied))
        replace(einfo, "traceback", Texts())


def kept(copy: Callable[[CodeType], Any]) -> Callable[[CodeType], Any]:
    """``copy``, called once for each code object."""
    # By identity: comparing two codes costs as much as copying one. The code is kept beside its
    # copy, so that no other one can take its address.
    copies: dict[int, tuple[CodeType, Any]] = {}

    def copied(code: CodeType) -> Any:
        found = copies.get(id(code))
        if found is None:
            if len(copies) >= _MOST:
                copies.clear()
            found = copies[id(code)] = (code, copy(code))
        return found[1]

    return copied


class Texts:
    """In the place of the module ``traceback``."""

    def __init__(self) -> None:
        # The code is kept beside its text, as above.
        self._known: dict[Place, tuple[CodeType, str]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(traceback, name)

    def format_exception(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> list[str]:
        """As ``traceback.format_exception`` has it, which is asked for all that is not plain."""
        places = [] if trace is None else list(_places(trace))
        plain = (
            error.__cause__ is None
            and (error.__context__ is None or error.__suppress_context__)
            and not isinstance(error, BaseExceptionGroup)
            and len({(code, line) for (code, _, line), _ in places}) > len(places) - _REPEATED
        )
        if not plain or not places:
            return traceback.format_exception(kind, error, trace)
        frames = [self._text(place, each) for place, each in places]
        only = traceback.format_exception_only(kind, error)
        return ["Traceback (most recent call last):\n", *frames, *only]

    def _text(self, place: Place, trace: TracebackType) -> str:
        found = self._known.get(place)
        if found is None:
            if len(self._known) >= _MOST_PLACES:
                self._known.clear()
            text = "".join(traceback.format_tb(trace, 1))
            found = self._known[place] = (trace.tb_frame.f_code, text)
        return found[1]


def _places(trace: TracebackType | None) -> Iterator[tuple[Place, TracebackType]]:
    while trace is not None:
        yield (id(trace.tb_frame.f_code), trace.tb_lasti, trace.tb_lineno), trace
        trace = trace.tb_next
