from __future__ import annotations

from typing import Any

import pytest

from twolane.beat.sending import claim_key, claim_slot
from twolane.errors import PublishError


def test_only_the_first_gets_it(bench: Any) -> None:
    for expected in (True, False, False):
        with claim_slot(bench.store, "id", now=bench.now, until=bench.now + 60) as free:
            assert free is expected


def test_while_one_sends_the_other_is_told_to_come_again(bench: Any) -> None:
    second = claim_slot(bench.store, "id", now=bench.now + 59, until=0)
    with (
        claim_slot(bench.store, "id", now=bench.now, until=bench.now + 60),
        pytest.raises(PublishError, match="another invocation"),
    ):
        second.__enter__()


def test_the_claim_of_a_dead_invocation_runs_out(bench: Any) -> None:
    bench.store.put(claim_key("id"), f"{bench.now + 60}", ttl_s=600)
    with claim_slot(bench.store, "id", now=bench.now + 61, until=bench.now + 120) as free:
        assert free


def test_a_failure_frees_the_claim(bench: Any) -> None:
    def fail() -> None:
        with claim_slot(bench.store, "id", now=bench.now, until=bench.now + 60):
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011 - any is raised on
        fail()
    with claim_slot(bench.store, "id", now=bench.now, until=bench.now + 60) as free:
        assert free


def test_of_two_who_take_over_one_wins(bench: Any) -> None:
    """The claim vanishes between the look and the write: the write is on the condition of it."""
    bench.store.put(claim_key("id"), f"{bench.now - 1}", ttl_s=600)

    class Late:
        """The store as the slower of two sees it."""

        def swap(self, key: str, expected: str | None, value: str, *, ttl_s: float) -> Any:
            answer = bench.store.swap(key, expected, value, ttl_s=ttl_s)
            if expected is None:
                bench.store.put(key, f"{bench.now + 60}", ttl_s=600)
            return answer

    claim = claim_slot(Late(), "id", now=bench.now, until=bench.now + 60)  # type: ignore[arg-type]
    with pytest.raises(PublishError):
        claim.__enter__()
