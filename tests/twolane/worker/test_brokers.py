from __future__ import annotations

import pytest
from celery import Celery

from twolane.patches.publishing import on_sqs


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqs://", True),
        ("sqs://key:secret@localhost:4566", True),
        (["sqs://", "redis://h"], True),
        ("redis://h", False),
    ],
)
def test_on_sqs(url: object, expected: bool) -> None:
    app = Celery("t", set_as_current=False)
    app.conf.update(broker_url=url)
    assert on_sqs(app) is expected
