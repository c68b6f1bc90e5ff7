"""What an application lets its result store take is less than its function has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.lint.findings import Found, Rule, Severity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Subject


def check(subject: Subject) -> Iterator[Found]:
    for name, application in sorted(subject.applications.items()):
        function = subject.resources[name]
        timeout = function.number("Timeout", 3)
        for setting, limit in application.store_limits.items():
            if timeout is None or limit < timeout:
                continue
            yield Found(
                name,
                f"{setting} lets Redis take {limit:g} s for an answer, but {name} is killed after "
                f"{timeout:g} s: inside an invocation twolane waits for half of what is left at "
                "most, but the application's own calls elsewhere wait for all of it",
                f"set {setting} below {timeout:g}, or leave it out",
            )


RULE = Rule(
    "TL220",
    "store-limit-beyond-timeout",
    Severity.WARNING,
    "The application's own time-outs for its result store are shorter than its function's.",
    "https://docs.celeryq.dev/en/stable/userguide/configuration.html#redis-socket-timeout",
    check,
    needs="application",
)
