"""A world with an application of a few lines, and what runs placements."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from twolane_local.testing.simulation.placements import STORES, Explorer, exploring
from twolane_local.testing.simulation.simulator import Application, Function, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

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
def world_of(application: Application) -> Callable[..., Simulation]:
    """``world_of(function, …)``: with these functions in the place of the application's own."""

    def make(*functions: Function, seed: int = 7, **options: Any) -> Simulation:
        known = dict(application.functions) | {each.name: each for each in functions}
        return Simulation(replace(application, functions=known, **options), seed)

    return make


@pytest.fixture(scope="module")
def explorers() -> Iterator[dict[str, Explorer]]:
    """By store; those that were used are ended."""
    with exploring(STORES[0]) as first, exploring(STORES[1]) as second:
        yield dict(zip(STORES, (first, second), strict=True))


@pytest.fixture(scope="module")
def redis(explorers: dict[str, Explorer]) -> Explorer:
    return explorers["redis"]


@pytest.fixture(scope="module")
def dynamodb(explorers: dict[str, Explorer]) -> Explorer:
    return explorers["dynamodb"]
