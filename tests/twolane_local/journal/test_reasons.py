from __future__ import annotations

import pytest

from twolane_local.journal.why import Reason, seconds


@pytest.mark.parametrize(
    ("value", "text"),
    [(-1, "0.0 s"), (0.44, "0.4 s"), (41, "41 s"), (600, "10 min"), (86_400, "24.0 h")],
)
def test_spans_of_time_as_people_say_them(value, text):
    assert seconds(value) == text


def test_a_reason_in_json_has_its_numbers_beside_its_words():
    reason = Reason("next", "to be received next", "waiting", {"ahead": 2})
    assert reason.about("app.send").as_dict() == {
        "ahead": 2, "code": "next", "text": "app.send: to be received next", "state": "waiting",
    }  # fmt: skip
