from __future__ import annotations

import time
from datetime import UTC, datetime

from twolane_local.clock.stepped import ProcessTime


def test_the_whole_process_reads_the_moved_time_until_the_end():
    real, monotonic = time.time(), time.monotonic()
    moved = ProcessTime()
    try:
        moved.clock.advance(86_400)
        assert 86_390 < time.time() - real < 86_500
        assert 86_390 < datetime.now(UTC).timestamp() - real < 86_500
        assert abs(moved.clock.time() - time.time()) < 1, "the clock is not moved twice"
        moved.clock.advance(86_400)
        assert 2 * 86_390 < time.time() - real < 2 * 86_500
        assert time.monotonic() - monotonic < 60
        moved.clock.pause()
        first = time.time()
        assert time.time() == first
    finally:
        moved.close()
    assert time.time() - real < 60
