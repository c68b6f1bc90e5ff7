"""The rules, in the order in which they run. Each is a ``Rule`` with its check beside it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.checks.lint.rules import batches, functions, names, queues

if TYPE_CHECKING:
    from twolane_local.checks.lint.findings import Rule

RULES: tuple[Rule, ...] = (
    queues.VISIBILITY,
    queues.RECEIVE_COUNT,
    batches.BATCH_FAILURES,
    batches.BATCH_TIME,
    queues.DEAD_LETTERS,
    batches.FIFO_WINDOW,
    names.WILDCARDS,
    queues.DEAD_LETTER_RETENTION,
    functions.CONCURRENCY,
    names.SECTION_FUNCTIONS,
    names.NAME_LENGTHS,
    names.UNIQUE_NAMES,
    functions.BEAT_ENTRIES,
    queues.QUEUES_READ,
    batches.HARD_LIMITS,
    functions.STORE_LIMITS,
    functions.RECURSIVE_LOOP,
    batches.INLINE_BUDGET,
)
