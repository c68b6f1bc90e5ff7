"""Rules about functions: concurrency, loops, timeouts of the result store, beat entries."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from twolane_local.checks.lint.findings import Severity, Violation, rule
from twolane_local.checks.lint.subject import UNKNOWN, as_list, as_mapping, as_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.checks.lint.subject import QueueSource, Resource, Subject


@rule(
    "TL109",
    "concurrency",
    Severity.WARNING,
    "The mappings of a function with reserved concurrency drive no more environments than that.",
    "https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html",
)
def concurrency(subject: Subject) -> Iterator[Violation]:
    readers: dict[str, list[QueueSource]] = defaultdict(list)
    for source in subject.sources():
        if source.function is not None:
            readers[source.function.id].append(source)
    for function, sources in readers.items():
        properties = subject.resources[function].properties
        reserved = as_number(properties.get("ReservedConcurrentExecutions"))
        scaling = [as_mapping(each.mapping.properties.get("ScalingConfig")) for each in sources]
        wanted = [as_number(each.get("MaximumConcurrency")) for each in scaling]
        if reserved is None or None in wanted:
            continue
        total = sum(each or 0 for each in wanted)
        if total <= reserved:
            continue
        of = "its mapping drives" if len(sources) == 1 else f"its {len(sources)} mappings drive"
        yield Violation(
            function,
            f"{function} may have {reserved:g} environments, and {of} {total:g}: refused messages "
            "were received for nothing, and end in the dead-letter queue",
            f"set ReservedConcurrentExecutions: {total:g}, or lower MaximumConcurrency",
            ("ReservedConcurrentExecutions",),
        )


#: The actions by which a chain of requests goes on, in the services where Lambda follows it.
_SENDS = frozenset(
    {"sqs:SendMessage", "sqs:*", "sns:Publish", "sns:*", "lambda:InvokeFunction", "lambda:*", "*"}
)


@rule(
    "TL240",
    "recursive-loop",
    Severity.WARNING,
    "A function whose messages come back to it has RecursiveLoop: Allow.",
    "https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html",
)
def recursive_loop(subject: Subject) -> Iterator[Violation]:
    reached = _reached(subject)
    # With a ``WorkerHandler`` whose tasks are sent to its own queue.
    by_celery = set()
    for source in subject.sources():
        if source.function is None or source.queue is None:
            continue
        application = subject.applications.get(source.function.id)
        if application is None or application.adapter != "WorkerHandler":
            continue
        for task in application.tasks:
            if subject.queue(task.queue_url or task.queue) is source.queue:
                by_celery.add(source.function.id)
    for function in subject.of_kind("AWS::Lambda::Function"):
        if function.properties.get("RecursiveLoop") in ("Allow", UNKNOWN):
            continue
        way = _way_back(function.id, reached)
        if way is None and function.id not in by_celery:
            continue
        if function.id in by_celery:
            what = "Celery's retries and chains come back to it by its queue"
        else:
            others = [subject.resources[each].id for each in way or ()]
            what = f"what it sends comes back to it by {', '.join(others)}"
        yield Violation(
            function.id,
            f"{function.id}: {what}. Lambda stops a chain of requests that has invoked a function "
            "16 times, and its message ends on the dead-letter queue without a line in the log",
            "set RecursiveLoop: Allow where the loop is meant",
            severity=None if function.id in by_celery else Severity.NOTE,
        )


def _reached(subject: Subject) -> dict[str, set[str]]:
    """Return the functions, queues and topics that each of them sends to, by logical id."""
    edges: dict[str, set[str]] = {}
    for source in subject.sources():
        if source.function is not None and source.queue is not None:
            edges.setdefault(source.queue.id, set()).add(source.function.id)
    for subscription in subject.of_kind("AWS::SNS::Subscription"):
        properties = subscription.properties
        topic = _target(subject, properties.get("TopicArn"))
        end = _target(subject, properties.get("Endpoint"))
        if topic is not None and end is not None:
            edges.setdefault(topic, set()).add(end)
    for function in subject.of_kind("AWS::Lambda::Function"):
        for arn in _may_send_to(subject, function):
            target = _target(subject, arn)
            if target is not None:
                edges.setdefault(function.id, set()).add(target)
    return edges


def _way_back(start: str, edges: dict[str, set[str]]) -> list[str] | None:
    """Return the resources on the shortest way from a function to itself, or ``None``."""
    ways: list[list[str]] = [[each] for each in sorted(edges.get(start, ()))]
    seen = {way[0] for way in ways}
    for way in ways:
        if way[-1] == start:
            return way[:-1] or [start]
        for following in sorted(edges.get(way[-1], ())):
            if following == start:
                return way
            if following not in seen:
                seen.add(following)
                ways.append([*way, following])
    return None


def _target(subject: Subject, arn: Any) -> str | None:
    """Return the logical id of a queue, function or topic of the template."""
    if not isinstance(arn, str):
        return None
    if ":sqs:" in arn:
        queue = subject.queue(arn)
        return queue.id if queue is not None else None
    if ":lambda:" in arn:
        function = subject.find_function(arn.removesuffix(":*"))
        return function.id if function is not None else None
    name = arn.rpartition(":")[2]
    for topic in subject.of_kind("AWS::SNS::Topic"):
        if name == topic.properties.get("TopicName") or name.endswith(f"-{topic.id}"):
            return topic.id
    return None


def _may_send_to(subject: Subject, function: Resource) -> Iterator[str]:
    """Yield the ARNs to which the policies of the function's role allow sending."""
    role = str(function.properties.get("Role", "")).rpartition("/")[2]
    for resource in subject.of_kind("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::RolePolicy"):
        properties = resource.properties
        if resource.kind == "AWS::IAM::Role":
            own = role == properties.get("RoleName") or role.endswith(f"-{resource.id}")
            documents = [as_mapping(each) for each in as_list(properties.get("Policies"))]
        else:
            roles = [*as_list(properties.get("Roles")), properties.get("RoleName")]
            own = role in roles
            documents = [properties]
        for document in documents if own and role else ():
            for statement in as_list(as_mapping(document.get("PolicyDocument")).get("Statement")):
                actions = {str(action) for action in as_list(as_mapping(statement).get("Action"))}
                allowed = as_mapping(statement).get("Effect") == "Allow"
                if allowed and not _SENDS.isdisjoint(actions):
                    yield from (str(each) for each in as_list(statement.get("Resource")))


@rule(
    "TL220",
    "store-limit-beyond-timeout",
    Severity.WARNING,
    "The application's own time-outs for its result store and SQS are shorter than its function's.",
    "https://docs.celeryq.dev/en/stable/userguide/configuration.html#redis-socket-timeout",
    needs="application",
)
def store_limits(subject: Subject) -> Iterator[Violation]:
    for name, application in sorted(subject.applications.items()):
        function = subject.resources[name]
        timeout = function.number("Timeout", 3)
        for setting, limit in application.store_limits.items():
            if timeout is None or limit < timeout:
                continue
            service = "SQS" if setting.startswith("client-config") else "Redis"
            yield Violation(
                name,
                f"{setting} lets {service} take {limit:g} s for an answer, but {name} is killed "
                f"after {timeout:g} s: inside an invocation twolane waits for half of what is left "
                "at most, but the application's own calls elsewhere wait for all of it",
                f"set {setting} below {timeout:g}, or leave it out",
            )


@rule(
    "TL201",
    "beat-entry-without-schedule",
    Severity.WARNING,
    "Every entry of `beat_schedule` is sent: by the tick of a BeatHandler's function, or by a "
    "schedule of its own.",
    "https://docs.celeryq.dev/en/stable/userguide/periodic-tasks.html",
    needs="application",
)
def beat_entries(subject: Subject) -> Iterator[Violation]:
    ticked, sent = _ticked_and_sent(subject)
    containers = list(subject.of_kind("AWS::ECS::TaskDefinition"))
    reported: set[tuple[str, str]] = set()
    # The beat function first: the schedule belongs there.
    ordered = sorted(
        subject.applications.items(), key=lambda item: item[1].adapter != "BeatHandler"
    )
    for function, application in ordered:
        if application.app in ticked or any(map(_runs_beat, containers)):
            continue
        for entry in application.entries:
            key = (application.app, entry.name)
            if key in reported or entry.name in sent:
                continue
            reported.add(key)
            yield Violation(
                function,
                f"no schedule sends the beat_schedule entry {entry.name!r} ({entry.task})",
                "give the BeatHandler's function an event of type ScheduleV2 with "
                "ScheduleExpression: cron(* * * * ? *)"
                if application.adapter == "BeatHandler"
                else "add a function with BeatHandler(celery), woken once a minute",
            )


def _ticked_and_sent(subject: Subject) -> tuple[set[str], set[str]]:
    """Return the applications that get a tick, and the entries with a schedule of their own."""
    ticked: set[str] = set()
    sent: set[str] = set()
    for target in _targets(subject):
        function = subject.find_function(target.get("Arn"))
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
            yield from map(as_mapping, as_list(schedule.properties.get(name)))


def _entry(text: Any) -> str | None:
    """Return the entry that a schedule's input names, as `twolane schedules` writes it."""
    try:
        return str(json.loads(text)["twolane"]["entry"])
    except (TypeError, ValueError, KeyError):
        return None


def _runs_beat(definition: Resource) -> bool:
    containers = map(as_mapping, as_list(definition.properties.get("ContainerDefinitions")))
    commands = [as_list(container.get("Command")) for container in containers]
    return any({"beat", "-B", "--beat"} & set(map(str, command)) for command in commands)
