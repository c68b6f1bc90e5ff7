"""Chance that repeats."""

from __future__ import annotations

import os
import random
import uuid

from twolane_local.functions import new_request_id
from twolane_local.testing.seed import seeded


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
