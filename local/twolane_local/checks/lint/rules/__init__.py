"""The rules, in the order in which they run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.checks.lint.rules import batches, functions, names, queues, settings

if TYPE_CHECKING:
    from twolane_local.checks.lint.findings import Rule

RULES: tuple[Rule, ...] = (
    queues.visibility,
    queues.receive_count,
    batches.batch_failures,
    batches.batch_time,
    queues.dead_letters,
    batches.fifo_window,
    names.wildcards,
    queues.dead_letter_retention,
    functions.concurrency,
    names.section_functions,
    names.name_lengths,
    names.unique_names,
    functions.beat_entries,
    queues.queues_read,
    batches.hard_limits,
    settings.broker,
    settings.eager,
    settings.serializer,
    settings.results,
    settings.coroutine_tasks,
    functions.store_limits,
    functions.recursive_loop,
    batches.inline_budget,
)
