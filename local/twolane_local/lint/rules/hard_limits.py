"""A task's hard time limit comes before the function's end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Subject


def check(subject: Subject) -> Iterator[Found]:
    for source in subject.sources():
        if source.function is None or source.queue is None:
            continue
        application = subject.applications.get(source.function.id)
        timeout = source.function.number("Timeout", 3)
        for task in application.tasks if application else ():
            limit = task.hard_limit_s
            if limit is None or timeout is None or limit < timeout:
                continue
            if subject.queue(task.queue_url or task.queue) != source.queue:
                continue
            yield Found(
                source.function.id,
                f"{task.name} may run {limit:g} s, but {source.function.id} is killed after "
                f"{timeout:g} s: the limit is never reached, and the whole batch comes back",
                f"set time_limit below {timeout:g}, or raise Timeout"
                if limit < 900
                else "route it to a stock `celery worker`: Lambda ends everything after 900 s",
                file=task.file,
                line=task.line,
            )


RULE = Rule(
    "TL203",
    "hard-limit-beyond-timeout",
    Severity.WARNING,
    "A task's hard time limit is shorter than the timeout of the function that runs it.",
    "https://docs.celeryq.dev/en/stable/userguide/workers.html#time-limits",
    check,
    needs="application",
)
