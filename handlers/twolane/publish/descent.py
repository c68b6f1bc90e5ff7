"""How far a task is from the one that began it all, carried on its message.

A task that another one publishes, be it a retry, the next of a chain, a chord's body or itself once
more, has two headers: ``twolane_depth``, how many tasks lie between it and the first, and
``twolane_depth_since``, when the present window of generations began (epoch seconds). What is
published outside of a task has none: it is a first one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any

DEPTH = "twolane_depth"
SINCE = "twolane_depth_since"

Line = Callable[[Mapping[str, Any]], Mapping[str, Any]]

#: While a task runs, its own headers, and what makes those of a task that it publishes of them.
#: Few tasks publish any, so nothing is worked out before one does.
running: ContextVar[tuple[Line, Mapping[str, Any]] | None] = ContextVar(
    "twolane_descent", default=None
)
