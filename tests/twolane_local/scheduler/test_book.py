from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from twolane_local.aws.scheduler.expressions import ConflictError, NotFoundError
from twolane_local.aws.scheduler.schedule import ScheduleBook, from_properties


def schedule(name: str = "s", **fields: Any) -> Any:
    source = fields.pop("source", "scheduler")
    properties = {"ScheduleExpression": "rate(1 hour)", "Target": {"Arn": "a"}, **fields}
    return from_properties(name, properties, now=0.0, source=source)


def test_a_rule_and_a_schedule_may_have_the_same_name() -> None:
    book = ScheduleBook()
    rule, own = schedule(source="rule"), schedule()
    book.add(rule)
    book.add(own)
    assert book.get("default", "s") is own
    assert book.get("default", "s", source="rule") is rule


def test_every_change_is_told() -> None:
    book = ScheduleBook()
    first, second = schedule(), schedule()
    changes = (
        partial(book.add, first),
        partial(book.replace, second),
        partial(book.remove, second),
    )
    for change in changes:
        book.changed.clear()
        change()
        assert book.changed.is_set()


def test_what_was_replaced_is_not_in_the_book() -> None:
    book = ScheduleBook()
    first, second = schedule(), schedule()
    book.add(first)
    book.replace(second)
    assert first not in book
    assert second in book


def test_names_that_are_taken_or_unknown() -> None:
    book = ScheduleBook()
    book.add(schedule())
    with pytest.raises(ConflictError):
        book.add(schedule())
    with pytest.raises(NotFoundError):
        book.replace(schedule("other"))
    with pytest.raises(NotFoundError):
        book.add(schedule("other", GroupName="none"))
