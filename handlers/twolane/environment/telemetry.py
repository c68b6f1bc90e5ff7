"""Sends what Sentry and OpenTelemetry still hold when an invocation ends, before the freeze.

Both send from threads of their own, which stand still as soon as Lambda freezes the environment;
for good, if it never thaws. https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
A flush with nothing to send costs next to nothing. Neither is ever imported here.
"""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

logger = logging.getLogger("twolane")

#: As long as Sentry waits when a process ends, in seconds.
_LONGEST_S = 2.0
#: What is left of the invocation's time for its answer.
_RESERVE_S = 0.5


def flush(left_s: float | None) -> None:
    """Send it, within ``left_s`` seconds; ``None``: there is no limit."""
    for name, send in _senders():
        limit_s = _LONGEST_S if left_s is None else min(_LONGEST_S, left_s - _RESERVE_S)
        if limit_s <= 0:
            return
        try:
            send(limit_s)
        except Exception as error:  # noqa: BLE001 - no task fails because of it
            logger.warning("%s could not send what it holds: %r", name, error)


def _senders() -> Iterator[tuple[str, Callable[[float], object]]]:
    modules = sys.modules
    if (sentry := modules.get("sentry_sdk")) is not None:
        yield "Sentry", lambda limit_s: sentry.flush(timeout=limit_s)
    for signal, get in (
        ("trace", "get_tracer_provider"),
        ("metrics", "get_meter_provider"),
        ("_logs", "get_logger_provider"),
    ):
        api = modules.get(f"opentelemetry.{signal}")
        if api is None or f"opentelemetry.sdk.{signal}" not in modules:
            continue
        provider = getattr(api, get)()
        if hasattr(provider, "force_flush"):
            yield f"OpenTelemetry ({signal})", partial(_force_flush, provider)


def _force_flush(provider: Any, limit_s: float) -> None:
    provider.force_flush(timeout_millis=int(limit_s * 1000))
