"""A task's body, and what it may have done to the process by the time that it ends.

A body may fork: the child comes back with a copy of all that the worker holds, and must not settle
the message, or answer the Runtime API, a second time. It may close descriptors that are not its
own: the number of one that was closed is given to the next that is opened, so what is written to
the state store might then reach something else. Both are looked at before Celery learns how the
body ended, which is before anything is stored, published or answered.

What else a task changes for its whole process (working directory, environment variables, umask,
signal handlers, logging …) stays changed, as under ``celery worker``; see docs/semantics.md.
"""

from __future__ import annotations

import functools
import json
import os
import sys
from fcntl import F_GETFL, F_SETFL, fcntl
from typing import TYPE_CHECKING, Any, NoReturn

from twolane import forks

if TYPE_CHECKING:
    from collections.abc import Callable

_MARK = "_twolane_guarded"

#: ``EX_SOFTWARE``: https://man.freebsd.org/cgi/man.cgi?query=sysexits
_UNSOUND = 70


@functools.cache
def _witness() -> Callable[[], bool]:
    """Whether a pipe is there that nobody uses: then nobody has closed what is not theirs.

    Its flags are such as no other descriptor has: the number alone may be another one's by now.
    """
    end, _ = os.pipe()
    fcntl(end, F_SETFL, os.O_NONBLOCK | os.O_APPEND)
    flags = fcntl(end, F_GETFL)

    def is_there() -> bool:
        try:
            return fcntl(end, F_GETFL) == flags
        except OSError:
            return False

    return is_there


def guard(task: Any) -> None:
    """Look after each run of a task's body. Idempotent."""
    if not hasattr(task.run, _MARK):
        task.run = _guarded(task.run, str(task.name))


def _guarded(run: Callable[..., Any], name: str) -> Callable[..., Any]:
    is_there = _witness()

    @functools.wraps(run)
    def body(*args: Any, **kwargs: Any) -> Any:
        forked, depth, stdout, stderr = forks.count, sys.getrecursionlimit(), sys.stdout, sys.stderr
        returned = False
        try:
            result = run(*args, **kwargs)
            returned = True
        finally:
            if forks.count != forked:
                forks.end(None if returned else sys.exception())
            if not is_there():
                _end_process(name)
            if sys.getrecursionlimit() < depth:
                sys.setrecursionlimit(depth)  # too low for Celery, and for all that follows
            if sys.stdout is not stdout or sys.stderr is not stderr:
                _put_back()
        return result

    setattr(body, _MARK, True)
    return body


def _end_process(name: str) -> NoReturn:
    """Lambda reports ``Runtime.ExitError`` and makes a new environment."""
    forks.say(
        json.dumps(
            {
                "level": "CRITICAL",
                "logger": "twolane.worker",
                "event": "environment.unsound",
                "message": f"! {name} has closed file descriptors that it has not opened. What is "
                "written to them could now reach anything, so this environment ends without an "
                "answer; the batch is delivered again. Close only what the task has opened",
                "taskName": name,
            }
        )
    )
    os._exit(_UNSOUND)


def _put_back() -> None:
    """A stream that nothing can be written to any more would take each line of the log with it."""
    for name, original in (("stdout", sys.__stdout__), ("stderr", sys.__stderr__)):
        stream = getattr(sys, name)
        if stream is None or getattr(stream, "closed", False):
            setattr(sys, name, original)
