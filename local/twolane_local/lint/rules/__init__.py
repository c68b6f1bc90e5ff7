"""The rules, by id. Each is one module with one ``RULE``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.rules import (
    batch_failures,
    batch_time,
    beat_entries,
    concurrency,
    dead_letter_retention,
    dead_letters,
    fifo_window,
    hard_limits,
    inline_budget,
    name_lengths,
    queues_read,
    receive_count,
    recursive_loop,
    section_functions,
    store_limits,
    unique_names,
    visibility,
    wildcards,
)

if TYPE_CHECKING:
    from twolane_local.lint.findings import Rule

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
