"""Chance that repeats."""

from __future__ import annotations

import gc
import os
import random
import uuid

import pytest

from twolane_local.aws.lambda_.functions import new_request_id
from twolane_local.testing.world import seeded, seldom_collected


def draws(seed: int) -> list[object]:
    with seeded(seed) as chance:
        first = [random.random(), uuid.uuid4(), new_request_id(), chance.ids.random()]
        chance.turn()
        return [*first, random.random(), uuid.uuid4()]


def test_a_seed_gives_the_same_again() -> None:
    assert draws(1) == draws(1)
    assert not set(draws(1)) & set(draws(2))


def test_a_turn_does_not_depend_on_what_was_drawn_before() -> None:
    with seeded(1) as chance:
        uuid.uuid4()
        random.random()
        chance.turn()
        after = random.random(), uuid.uuid4()
    assert list(after) == draws(1)[-2:]


def test_chance_is_true_again_afterwards() -> None:
    random.seed(5)
    expected = random.random()
    random.seed(5)
    with seeded(1):
        random.random()
    assert random.random() == expected
    with seeded(1):
        assert os.urandom(16) != os.urandom(16)
    assert uuid.uuid4() != uuid.uuid4()


@pytest.mark.parametrize(
    ("before", "inside"), [(700, 20_000), (50_000, 50_000), (0, 0)], ids=["usual", "rare", "off"]
)
def test_cycles_are_looked_for_seldom_and_then_as_before(before: int, inside: int) -> None:
    known = gc.get_threshold()
    gc.set_threshold(before, 7, 9)
    try:
        with seldom_collected():
            assert gc.get_threshold()[0] == inside
        assert gc.get_threshold()[:2] == (before, 7)
    finally:
        gc.set_threshold(*known)
