"""Cheaper copies of tracebacks for Celery's ``ExceptionInfo``.

Celery's tracer hands a failure or a retry to another process, so billiard copies each frame of the
traceback into what can be pickled, with every position of the frame's code: a third of a
millisecond a frame in a function as long as Celery's tracer, ten times what the task itself takes.
A function's code never changes, so its copy is made once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from billiard import einfo

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType

#: How many functions are remembered: more than a worker's tracebacks go through, unless it makes
#: its code as it runs.
_MOST = 128
_MARK = "_twolane_kept"


def install() -> None:
    """Have billiard keep its copies. Idempotent."""
    frame: Any = vars(einfo)["_Frame"]
    if not hasattr(frame.Code, _MARK):
        copied = kept(frame.Code)
        setattr(copied, _MARK, True)
        frame.Code = staticmethod(copied)


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
