"""How far a task is from the one that began it all, carried on its message.

A task that another one publishes, be it a retry, the next of a chain, a chord's body or itself once
more, has two headers: ``twolane_depth``, how many tasks lie between it and the first, and
``twolane_depth_since``, when the present window of generations began (epoch seconds). What is
published outside of a task has none: it is a first one.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

DEPTH = "twolane_depth"
SINCE = "twolane_depth_since"

#: The headers for what the running task publishes; ``None`` outside of one, and where no limit is.
children: ContextVar[Mapping[str, Any] | None] = ContextVar("twolane_descent", default=None)
