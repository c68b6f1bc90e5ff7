"""A forked process that comes back: it must not do its parent's work a second time.

A process that the application forks has a copy of everything in this one: the message at hand, the
connections to the state store, the conversation with the Runtime API. A child that the application
ends by itself (``os._exit``, ``multiprocessing``) never comes here.
"""

from __future__ import annotations

import functools
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

#: How many forks lie between this process and the first one that had this module.
count = 0
#: This process's number, which costs a system call.
pid = os.getpid()


def _forked() -> None:
    global count, pid  # noqa: PLW0603 - they are the process's
    count += 1
    pid = os.getpid()


os.register_at_fork(after_in_child=_forked)


def ends_in_child(call: Callable[P, T]) -> Callable[P, T]:
    """From this function only the process returns that has called it."""

    @functools.wraps(call)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> T:
        before = count
        returned = False
        try:
            result = call(*args, **kwargs)
            returned = True
        finally:
            if count != before:
                end(None if returned else sys.exception())
        return result

    return guarded


def end(error: BaseException | None) -> NoReturn:
    """End this process as Python ends a program: with its exit code, or a traceback and 1."""
    status = 0
    if isinstance(error, SystemExit):
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
        if not isinstance(error.code, int | None):
            say(str(error.code))
    elif error is not None:
        status = 1
        say("".join(traceback.format_exception(error)))
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue  # it was closed, or there never was one
    os._exit(status & 0xFF)


def say(text: str) -> None:
    """Write to the process's standard error, past all that an application may have replaced."""
    try:
        os.write(2, f"{text.rstrip()}\n".encode())
    except OSError:
        return  # that is closed as well
