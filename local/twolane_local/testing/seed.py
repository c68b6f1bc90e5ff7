"""Chance that repeats: one seed for ids, jitter, and everything that ``random`` decides."""

from __future__ import annotations

import os
import random
import uuid
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING
from unittest import mock

from twolane_local import functions

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def seeded(seed: int) -> Iterator[random.Random]:
    """``random``, UUIDs and request ids repeat inside of the block; ``os.urandom`` stays true.

    Gives the source of all ids, the emulator's own among them.
    """
    state = random.getstate()
    random.seed(seed)
    ids = random.Random(seed)  # noqa: S311 - ids of a test
    entropy = SimpleNamespace(**{**vars(os), "urandom": ids.randbytes})
    try:
        with (
            mock.patch.object(uuid, "os", entropy),
            mock.patch.object(functions, "os", entropy),
        ):
            yield ids
    finally:
        random.setstate(state)
