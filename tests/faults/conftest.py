"""The demonstration application, as the simulator drives it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.testing.simulation.simulator import Application

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    from twolane_local.testing.simulation.demo import demo

    with demo(ROOT / "handlers") as loaded:
        yield loaded
