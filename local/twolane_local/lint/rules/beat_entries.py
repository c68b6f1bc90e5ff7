"""Every entry of ``beat_schedule`` is sent by something."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.lint.findings import Found, Rule, Severity
from twolane_local.lint.subject import listed, mapping

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.lint.subject import Resource, Subject


def check(subject: Subject) -> Iterator[Found]:
    ticked, sent = _driven(subject)
    told: set[tuple[str, str]] = set()
    # The beat function's word first: that is where the schedule belongs.
    ordered = sorted(
        subject.applications.items(), key=lambda item: item[1].adapter != "BeatHandler"
    )
    for function, application in ordered:
        if application.app in ticked or _beats_in_a_container(subject):
            continue
        for entry in application.entries:
            key = (application.app, entry.name)
            if key in told or entry.name in sent:
                continue
            told.add(key)
            yield Found(
                function,
                f"no schedule sends the beat_schedule entry {entry.name!r} ({entry.task})",
                "give the BeatHandler's function an event of type ScheduleV2 with "
                "ScheduleExpression: cron(* * * * ? *)"
                if application.adapter == "BeatHandler"
                else "add a function with BeatHandler(celery), woken once a minute",
            )


def _driven(subject: Subject) -> tuple[set[str], set[str]]:
    """The applications that are woken by a tick, and the entries with a schedule of their own."""
    ticked: set[str] = set()
    sent: set[str] = set()
    for target in _targets(subject):
        function = subject.function_called(target.get("Arn"))
        application = subject.applications.get(function.id) if function else None
        if application is None or application.adapter != "BeatHandler":
            continue
        entry = _entry(target.get("Input"))
        if entry is None:
            ticked.add(application.app)
        else:
            sent.add(entry)
    return ticked, sent


def _targets(subject: Subject) -> Iterator[Mapping[str, Any]]:
    for schedule in subject.of_kind("AWS::Scheduler::Schedule", "AWS::Events::Rule"):
        if schedule.properties.get("State", "ENABLED") != "ENABLED":
            continue
        if "ScheduleExpression" not in schedule.properties:
            continue
        for name in ("Target", "Targets"):
            yield from map(mapping, listed(schedule.properties.get(name)))


def _entry(text: Any) -> str | None:
    """The one entry that a schedule's input names, as `twolane schedules` writes it."""
    try:
        asked = json.loads(text)["twolane"]["entry"]
    except (TypeError, ValueError, KeyError):
        return None
    return str(asked)


def _beats_in_a_container(subject: Subject) -> bool:
    """Whether a container of the template runs `celery beat`."""
    return any(_runs_beat(item) for item in subject.of_kind("AWS::ECS::TaskDefinition"))


def _runs_beat(definition: Resource) -> bool:
    containers = map(mapping, listed(definition.properties.get("ContainerDefinitions")))
    commands = [listed(container.get("Command")) for container in containers]
    return any({"beat", "-B", "--beat"} & set(map(str, command)) for command in commands)


RULE = Rule(
    "TL201",
    "beat-entry-without-schedule",
    Severity.WARNING,
    "Every entry of `beat_schedule` is sent: by the tick of a BeatHandler's function, or by a "
    "schedule of its own.",
    "https://docs.celeryq.dev/en/stable/userguide/periodic-tasks.html",
    check,
    needs="application",
)
