"""The garbage collector in Lambda's Init phase.

The objects that imports make stay. Meanwhile the collector looks through all of them, again and
again, and finds next to nothing: some 8 % of the cold start of a FastAPI application with Celery.
So it waits from twolane's import until the handler stands, and never looks at these objects again;
later it collects the garbage of invocations.

If no handler ever ends the phase, it still collects, only seldom. It is left alone outside an
execution environment, or if the application has its own thresholds.

https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtime-environment.html
https://docs.python.org/3/library/gc.html#gc.freeze
"""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: More objects than applications make in their imports, few enough to be no leak: about 20 MB.
_SELDOM = 250_000

_before: list[tuple[int, int, int]] = []


def begin(environ: Mapping[str, str]) -> None:
    """Collect seldom, in an execution environment; elsewhere nothing happens."""
    if not _before and "AWS_LAMBDA_RUNTIME_API" in environ:
        _before.append(gc.get_threshold())
        gc.set_threshold(_SELDOM, *_before[0][1:])


def end() -> None:
    """Collect as before, but no object that is there now; only at the first call."""
    while _before:
        thresholds = _before.pop()
        if gc.get_threshold()[0] == _SELDOM:
            gc.freeze()
            gc.set_threshold(*thresholds)
