"""Chance that repeats: one seed for ids, jitter, and everything that ``random`` decides."""

from __future__ import annotations

import gc
import os
import random
import uuid
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest import mock

from twolane_local.aws.lambda_ import functions

if TYPE_CHECKING:
    from collections.abc import Iterator


class Chance:
    """What is drawn in a test. ``ids`` gives every id, the emulator's own among them."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.ids = random.Random()  # noqa: S311 - ids of a test
        self._turns = 0
        self.begin()

    def begin(self) -> None:
        """The test begins: what was drawn before makes no difference to it."""
        self._turns = -1
        self.turn()

    def turn(self) -> None:
        """Draw anew from the seed. At each invocation, so that what a library draws once in a
        process changes nothing of what follows.
        """
        self._turns += 1
        # Numbers, as a text would be hashed first.
        number = self.seed << 33 | self._turns << 1
        random.seed(number)
        self.ids.seed(number | 1)


#: Objects that Python tracks; most tests make fewer.
_COLLECTED_AFTER = 20_000


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Python looks for cycles less often inside of the block: it does so in the middle of anything,
    and what it finds (an ``AsyncResult``) talks to the result store as it goes. Whoever has
    switched collection off keeps it so: https://docs.python.org/3/library/gc.html#gc.set_threshold
    """
    first, *others = gc.get_threshold()
    gc.set_threshold(max(first, _COLLECTED_AFTER) if first else 0, *others)
    try:
        yield
    finally:
        gc.set_threshold(first, *others)


@contextmanager
def seeded(seed: int, *, entropy: bool = False) -> Iterator[Chance]:
    """``random``, UUIDs and request ids repeat inside; with ``entropy`` also ``os.urandom``."""
    state = random.getstate()
    chance = Chance(seed)
    drawing = SimpleNamespace(**{**vars(os), "urandom": chance.ids.randbytes})
    try:
        with (
            seldom_collected(),
            mock.patch.object(uuid, "os", drawing),
            mock.patch.object(functions, "os", drawing),
            mock.patch.object(os, "urandom", drawing.urandom if entropy else os.urandom),
        ):
            yield chance
    finally:
        random.setstate(state)
