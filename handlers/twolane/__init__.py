"""FastAPI and Celery on AWS Lambda: three adapters, and parts that make long work an HTTP resource.

Each name is imported on first use: a worker function must not pay for FastAPI at its cold start,
nor an API function for the worker.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING

from twolane.environment import init_phase
from twolane.patches import run_coroutine_tasks

if TYPE_CHECKING:
    from twolane.api import ApiHandler
    from twolane.beat import BeatHandler
    from twolane.beat.router import schedules_router
    from twolane.errors import TwolaneError
    from twolane.http.idempotency import idempotent_route
    from twolane.http.problems import install_problems
    from twolane.router import tasks_router
    from twolane.worker import WorkerHandler

init_phase.begin(os.environ)
if "celery" in sys.modules:  # as it is under ``celery worker``, whatever the order of imports
    run_coroutine_tasks()

__all__ = [
    "ApiHandler",
    "BeatHandler",
    "TwolaneError",
    "WorkerHandler",
    "idempotent_route",
    "install_problems",
    "schedules_router",
    "tasks_router",
]

_HOME = {
    "ApiHandler": "twolane.api",
    "BeatHandler": "twolane.beat",
    "TwolaneError": "twolane.errors",
    "WorkerHandler": "twolane.worker",
    "idempotent_route": "twolane.http.idempotency",
    "install_problems": "twolane.http.problems",
    "schedules_router": "twolane.beat.router",
    "tasks_router": "twolane.router",
}


def __getattr__(name: str) -> object:
    try:
        module = _HOME[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    return getattr(importlib.import_module(module), name)
