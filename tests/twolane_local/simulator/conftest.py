"""A world with an application of a few lines."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from twolane_local.simulator.application import Application
from twolane_local.simulator.functions import Function
from twolane_local.simulator.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

START = 1_800_000_000.0


def function(name: str, handler: Callable[[Any, Any], Any], **options: Any) -> Function:
    """One whose module does nothing but to define its handler."""
    return Function(name, lambda _: handler, options.pop("timeout_s", 30.0), **options)


@pytest.fixture
def application() -> Application:
    """Its worker takes whatever comes, its API accepts it, its beat has nothing to do."""
    functions = [
        function("api", lambda *_: {"statusCode": 202, "body": '{"id": "t1"}'}),
        function("worker", lambda *_: {"batchItemFailures": []}),
        function("beat", lambda *_: None),
    ]
    return Application(
        celery=Celery("tiny", set_as_current=False),
        functions={each.name: each for each in functions},
        root=Path(),
        start=START,
        watched=lambda _: contextlib.nullcontext(),
        slots=lambda _begin, _end: [],
        queue_attributes={"VisibilityTimeout": "60"},
    )


@pytest.fixture
def world_of(application: Application) -> Callable[..., World]:
    """``world_of(function, …)``: with these functions in the place of the application's own."""

    def make(*functions: Function, seed: int = 7, **options: Any) -> World:
        known = dict(application.functions) | {each.name: each for each in functions}
        return World(replace(application, functions=known, **options), seed)

    return make
