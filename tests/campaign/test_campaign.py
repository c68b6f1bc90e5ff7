"""A small campaign on each store, with one of each fault that is soon over; see `make campaign`."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING

import pytest

from .driver import Wanted, run

if TYPE_CHECKING:
    from pathlib import Path

#: A store's outage sends messages back for half a minute; what stands still takes a timeout.
FAULTS = [
    "environment.killed", "environment.frozen", "api.killed", "store.killed", "emulator.killed",
    "visibility.stolen", "disk.full", "queue.two-deliveries-at-once", "queue.duplicate-delivery",
    "queue.reordered", "send.reply-lost",
]  # fmt: skip

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
    pytest.mark.skipif(sys.platform != "linux", reason="it finds processes in /proc"),
]


@pytest.mark.parametrize("store", ["redis", "dynamodb"])
def test_small_campaign(tmp_path: Path, store: str) -> None:
    if store == "redis" and shutil.which("redis-server") is None:
        pytest.skip("redis-server is not on the PATH; install it (apt-get install redis-server)")
    wanted = Wanted(
        seed=1, store=store, tasks=120, chords=2, faults=FAULTS, spread_s=6.0, max_receives=4
    )
    outcome = run(wanted, tmp_path)
    assert outcome.verdict.violations == []
    assert set(outcome.faults) >= set(FAULTS), outcome.skipped
    assert outcome.drained
