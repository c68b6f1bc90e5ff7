"""A function whose messages come back to it says that the loop is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twolane_local.lint.findings import Found, Rule, Severity
from twolane_local.lint.subject import UNKNOWN, listed, mapping

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twolane_local.lint.subject import Resource, Subject

#: What may be sent where: the services through which Lambda follows a chain of requests.
_SENDS = frozenset(
    {"sqs:SendMessage", "sqs:*", "sns:Publish", "sns:*", "lambda:InvokeFunction", "lambda:*", "*"}
)


def check(subject: Subject) -> Iterator[Found]:
    reached = _reached(subject)
    by_celery = _celery_workers(subject)
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
        yield Found(
            function.id,
            f"{function.id}: {what}. Lambda stops a chain of requests that has invoked a function "
            "16 times, and its message ends on the dead-letter queue without a line in the log",
            "set RecursiveLoop: Allow where the loop is meant",
            severity=None if function.id in by_celery else Severity.NOTE,
        )


def _celery_workers(subject: Subject) -> frozenset[str]:
    """The functions with a ``WorkerHandler`` that read a queue which their tasks are sent to."""
    found = set()
    for source in subject.sources():
        if source.function is None or source.queue is None:
            continue
        application = subject.applications.get(source.function.id)
        if application is None or application.adapter != "WorkerHandler":
            continue
        for task in application.tasks:
            if subject.queue(task.queue_url or task.queue) is source.queue:
                found.add(source.function.id)
    return frozenset(found)


def _reached(subject: Subject) -> dict[str, set[str]]:
    """By logical id, where what it gets or sends goes next: functions, queues, topics."""
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
    """What lies between the function and itself, on the shortest way; ``None`` if there is none."""
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
    """The logical id of a queue, function or topic of the template."""
    if not isinstance(arn, str):
        return None
    if ":sqs:" in arn:
        queue = subject.queue(arn)
        return queue.id if queue is not None else None
    if ":lambda:" in arn:
        function = subject.function_called(arn.removesuffix(":*"))
        return function.id if function is not None else None
    name = arn.rpartition(":")[2]
    for topic in subject.of_kind("AWS::SNS::Topic"):
        if name == topic.properties.get("TopicName") or name.endswith(f"-{topic.id}"):
            return topic.id
    return None


def _may_send_to(subject: Subject, function: Resource) -> Iterator[str]:
    """The ARNs that the policies of the function's role let it send to."""
    role = str(function.properties.get("Role", "")).rpartition("/")[2]
    for resource in subject.of_kind("AWS::IAM::Role", "AWS::IAM::Policy", "AWS::IAM::RolePolicy"):
        properties = resource.properties
        if resource.kind == "AWS::IAM::Role":
            own = role == properties.get("RoleName") or role.endswith(f"-{resource.id}")
            documents = [mapping(each) for each in listed(properties.get("Policies"))]
        else:
            roles = [*listed(properties.get("Roles")), properties.get("RoleName")]
            own = role in roles
            documents = [properties]
        for document in documents if own and role else ():
            for statement in listed(mapping(document.get("PolicyDocument")).get("Statement")):
                if _allows_sending(mapping(statement)):
                    yield from (str(each) for each in listed(statement.get("Resource")))


def _allows_sending(statement: Any) -> bool:
    actions = {str(action) for action in listed(statement.get("Action"))}
    return statement.get("Effect") == "Allow" and not _SENDS.isdisjoint(actions)


RULE = Rule(
    "TL240",
    "recursive-loop",
    Severity.WARNING,
    "A function whose messages come back to it has RecursiveLoop: Allow.",
    "https://docs.aws.amazon.com/lambda/latest/dg/invocation-recursion.html",
    check,
)
