from __future__ import annotations

import pytest

from twolane.worker.records import Outcome, Record, Settled, is_stopper, response, visibility_s

ARN = "arn:aws:sqs:us-east-1:123456789012:tasks"


def settled(outcome: Outcome, received: int = 1, wait_s: float | None = None) -> Settled:
    attributes = {"ApproximateReceiveCount": str(received)}
    return Settled(Record("m1", "r1", "", ARN, attributes), outcome, wait_s)


@pytest.mark.parametrize(
    ("outcome", "comes_back"),
    [
        (Outcome.ACKNOWLEDGED, False),
        (Outcome.DUPLICATE, False),
        (Outcome.DEFERRED, False),
        (Outcome.REQUEUED, True),
        (Outcome.REJECTED, True),
        (Outcome.MALFORMED, True),
        (Outcome.BUSY, True),
        (Outcome.POSTPONED, True),
        (Outcome.UNTOUCHED, True),
        (Outcome.BROKEN, True),
    ],
)
def test_what_sqs_sees(outcome: Outcome, comes_back: bool) -> None:
    failures = [{"itemIdentifier": "m1"}] if comes_back else []
    assert response([settled(outcome)]) == {"batchItemFailures": failures}
    assert (visibility_s(settled(outcome)) is not None) is comes_back
    assert is_stopper(outcome) is comes_back


@pytest.mark.parametrize(
    ("outcome", "received", "seconds"),
    [
        (Outcome.UNTOUCHED, 50, 0),
        (Outcome.REQUEUED, 1, 0),
        (Outcome.REQUEUED, 2, 1),
        (Outcome.REQUEUED, 5, 8),
        (Outcome.MALFORMED, 1, 1),
        (Outcome.MALFORMED, 4, 8),
        (Outcome.MALFORMED, 10, 512),
        (Outcome.MALFORMED, 11, 900),
        (Outcome.BROKEN, 1, 30),
        (Outcome.BROKEN, 4, 240),
        (Outcome.BROKEN, 1000, 900),
        (Outcome.REJECTED, 10, 0),
        (Outcome.REJECTED, 11, 1),
        (Outcome.REJECTED, 30, 900),
    ],
)
def test_back_off_grows_with_the_receive_count(
    outcome: Outcome, received: int, seconds: int
) -> None:
    assert visibility_s(settled(outcome, received)) == seconds


@pytest.mark.parametrize(
    ("wait_s", "seconds"), [(0.2, 1), (30.0, 30), (30.1, 31), (99_999, 43_200)]
)
def test_a_known_wait_is_kept(wait_s: float, seconds: int) -> None:
    assert visibility_s(settled(Outcome.POSTPONED, 3, wait_s)) == seconds
