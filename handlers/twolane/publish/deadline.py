"""When the current invocation must have answered; whoever knows it sets it."""

from __future__ import annotations

from contextvars import ContextVar

#: On ``time.monotonic()``'s clock; ``None`` where nobody knows.
deadline: ContextVar[float | None] = ContextVar("twolane_publish_deadline", default=None)
