"""What runs placements, on each store."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.simulator.exhaustive.runs import STORES, Explorer, exploring

if TYPE_CHECKING:
    from collections.abc import Iterator


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
