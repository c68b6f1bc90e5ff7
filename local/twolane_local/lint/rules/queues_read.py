"""Every queue that a task is routed to is read by something."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.application import Task
    from twolane_local.lint.subject import Subject


def check(subject: Subject) -> Iterator[Found]:
    read = {source.queue.id for source in subject.sources() if source.queue is not None}
    told: set[tuple[str, str]] = set()
    for function, application in subject.applications.items():
        if not application.broker.startswith("sqs:"):
            continue
        for task in application.tasks:
            key = (application.app, task.name)
            if key in told or is_read(subject, task, read):
                continue
            told.add(key)
            yield Found(
                function,
                f"{task.name} is routed to the queue {task.queue!r}, which no event source mapping "
                "of this template reads",
                "give a worker function an SQS event for that queue, or correct task_routes and "
                "broker_transport_options['predefined_queues']",
                file=task.file,
                line=task.line,
            )


def is_read(subject: Subject, task: Task, by_mappings: set[str]) -> bool:
    """Whether a function, or a container of the template, takes from the task's queue."""
    queue = subject.queue(task.queue_url or task.queue)
    if queue is not None and queue.id in by_mappings:
        return True
    name = next((name for name, known in subject.names.items() if queue and known == queue.id), "")
    return any(
        wanted and wanted in json.dumps(definition.properties, default=repr)
        for definition in subject.of_kind("AWS::ECS::TaskDefinition")
        for wanted in (name, task.queue_url)
    )


RULE = Rule(
    "TL202",
    "queue-without-reader",
    Severity.WARNING,
    "Every queue that a task is routed to is read by an event source mapping, or by a container of "
    "the template.",
    "https://docs.celeryq.dev/en/stable/userguide/routing.html",
    check,
    needs="application",
)
