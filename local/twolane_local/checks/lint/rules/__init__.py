"""The rules, by id. Each is one module with one ``RULE``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.checks.lint.rules import batches as batch_failures
from twolane_local.checks.lint.rules import batches as batch_time
from twolane_local.checks.lint.rules import batches as fifo_window
from twolane_local.checks.lint.rules import batches as hard_limits
from twolane_local.checks.lint.rules import batches as inline_budget
from twolane_local.checks.lint.rules import functions as beat_entries
from twolane_local.checks.lint.rules import functions as concurrency
from twolane_local.checks.lint.rules import functions as recursive_loop
from twolane_local.checks.lint.rules import functions as store_limits
from twolane_local.checks.lint.rules import names as name_lengths
from twolane_local.checks.lint.rules import names as section_functions
from twolane_local.checks.lint.rules import names as unique_names
from twolane_local.checks.lint.rules import names as wildcards
from twolane_local.checks.lint.rules import queues as dead_letter_retention
from twolane_local.checks.lint.rules import queues as dead_letters
from twolane_local.checks.lint.rules import queues as queues_read
from twolane_local.checks.lint.rules import queues as receive_count
from twolane_local.checks.lint.rules import queues as visibility

if TYPE_CHECKING:
    from twolane_local.checks.lint.findings import Rule

RULES: tuple[Rule, ...] = tuple(
    module.RULE
    for module in (
        visibility,
        receive_count,
        batch_failures,
        batch_time,
        dead_letters,
        fifo_window,
        wildcards,
        dead_letter_retention,
        concurrency,
        section_functions,
        name_lengths,
        unique_names,
        beat_entries,
        queues_read,
        hard_limits,
        store_limits,
        recursive_loop,
        inline_budget,
    )
)
