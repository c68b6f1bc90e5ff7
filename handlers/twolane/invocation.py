"""What is known of the invocation at hand, for whatever is called in it."""

from __future__ import annotations

from contextvars import ContextVar

#: When it must have answered, on ``time.monotonic()``'s clock; ``None`` where nobody knows. Its
#: adapter sets it.
deadline: ContextVar[float | None] = ContextVar("twolane_deadline", default=None)
