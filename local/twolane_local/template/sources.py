"""What invokes functions beside requests: mappings, schedules, rules and subscriptions.

What is not played of them is complained of, by ``complain(logical_id, why)``.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.aws.event_source_mapping import check as check_mapping
from twolane_local.aws.events.patterns import compile_filters, compile_pattern, compile_policy
from twolane_local.aws.invocation import service_in_arn, target_of
from twolane_local.aws.scheduler.schedule import from_spec
from twolane_local.aws.scheduler.targets import is_supported
from twolane_local.errors import TemplateError
from twolane_local.model import ACCOUNT, REGION, QueueMappingSpec, ScheduleSpec
from twolane_local.model.openapi import is_true
from twolane_local.template.limits import number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from twolane_local.template import Template
    from twolane_local.template.names import Names

    Complain = Callable[[str, str], None]

#: By the service in the ARN of its source, what a mapping reads.
_STREAMS = {
    "dynamodb": "a DynamoDB stream",
    "kinesis": "a Kinesis stream",
    "kafka": "a Kafka cluster",
    "mq": "a broker of Amazon MQ",
    "rds": "changes in DocumentDB",
}
#: The services that a rule with a pattern reaches, as it or moto plays them.
_RULE_TARGETS = frozenset({"lambda", "sqs", "sns", "events", "logs"})
_PROTOCOLS = frozenset({"lambda", "sqs", "http", "https"})


def of_type(template: Template, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The resources of a type, with their properties."""
    for logical_id, resource in template.resources.items():
        if resource["Type"] == kind:
            yield logical_id, resource.get("Properties") or {}


def mappings(template: Template, names: Names, complain: Complain) -> Iterator[QueueMappingSpec]:
    """Event source mappings from queues."""
    for logical_id, raw in of_type(template, "AWS::Lambda::EventSourceMapping"):
        properties = names.resolve(dict(raw))
        arn = str(properties.get("EventSourceArn", ""))
        function, _, qualifier = target_of(str(properties["FunctionName"])).partition(":")
        if ":sqs:" not in arn:
            stream = _STREAMS.get(service_in_arn(arn), "a self-managed Kafka cluster")
            complain(logical_id, f"{function} gets nothing from {stream}: only queues are read")
            continue
        pollers = properties.get("ProvisionedPollerConfig") or {}
        filters = (properties.get("FilterCriteria") or {}).get("Filters") or []
        spec = QueueMappingSpec(
            function=function,
            qualifier=qualifier,
            queue_arn=arn,
            batch_size=number(properties, "BatchSize", 10, 1, None),
            batching_window_s=number(properties, "MaximumBatchingWindowInSeconds", 0, 0, None),
            maximum_concurrency=_optional_int(
                (properties.get("ScalingConfig") or {}).get("MaximumConcurrency")
            ),
            minimum_pollers=_optional_int(pollers.get("MinimumPollers")),
            maximum_pollers=_optional_int(pollers.get("MaximumPollers")),
            report_batch_item_failures="ReportBatchItemFailures"
            in (properties.get("FunctionResponseTypes") or ()),
            filter_patterns=tuple(json.loads(item["Pattern"]) for item in filters),
            enabled=is_true(properties.get("Enabled", True)),
            uuid=logical_id,
        )
        check_mapping(spec)
        compile_filters(spec.filter_patterns)  # refuses what AWS does
        if function in names.functions:
            yield spec
        else:
            complain(logical_id, f"{function} is no function of this template")


def _optional_int(value: Any) -> int | None:
    return None if value is None else int(value)


def schedules(template: Template, names: Names, complain: Complain) -> Iterator[ScheduleSpec]:
    """Those of EventBridge Scheduler, and rules on a schedule, one for each target."""
    for logical_id, spec in _read_schedules(template, names):
        from_spec(spec, now=0)  # refuses what AWS does
        if is_supported(spec.target_arn):
            yield spec
        else:
            complain(logical_id, f"nothing is sent to {spec.target_arn}")


def _read_schedules(template: Template, names: Names) -> Iterator[tuple[str, ScheduleSpec]]:
    for logical_id, raw in of_type(template, "AWS::Scheduler::Schedule"):
        properties = names.resolve(dict(raw))
        target = properties["Target"]
        yield (
            logical_id,
            ScheduleSpec(
                name=names.name(logical_id),
                expression=str(properties["ScheduleExpression"]),
                target_arn=str(target["Arn"]),
                input=target.get("Input"),
                timezone=str(properties.get("ScheduleExpressionTimezone", "UTC")),
                enabled=properties.get("State", "ENABLED") != "DISABLED",
                source="scheduler",
                options={**properties, "Target": target},
            ),
        )
    for logical_id, raw in of_type(template, "AWS::Events::Rule"):
        properties = names.resolve(dict(raw))
        if "ScheduleExpression" not in properties:
            continue
        for target in properties.get("Targets") or ():
            yield (
                logical_id,
                ScheduleSpec(
                    name=names.name(logical_id),
                    expression=str(properties["ScheduleExpression"]),
                    target_arn=str(target["Arn"]),
                    input=target.get("Input"),
                    enabled=properties.get("State", "ENABLED") != "DISABLED",
                    source="rule",
                    options={"Target": target},
                ),
            )


def rules(template: Template, names: Names, complain: Complain) -> Iterator[dict[str, Any]]:
    """The rules of EventBridge that match events, as moto takes them."""
    for logical_id, raw in of_type(template, "AWS::Events::Rule"):
        properties = names.resolve(dict(raw))
        pattern = properties.get("EventPattern")
        if pattern is None:
            continue
        pattern = json.loads(pattern) if isinstance(pattern, str) else pattern
        compile_pattern(pattern)  # refuses what AWS does
        targets = properties.get("Targets") or []
        for target in targets:
            if service_in_arn(str(target["Arn"])) not in _RULE_TARGETS:
                complain(logical_id, f"nothing is sent to {target['Arn']}")
        yield {**properties, "Name": names.name(logical_id), "EventPattern": pattern}


def subscriptions(template: Template, names: Names, complain: Complain) -> Iterator[dict[str, Any]]:
    """Subscriptions to topics, also those that a topic has in itself."""
    for logical_id, found in _all_subscriptions(template, names):
        if found["Protocol"] not in _PROTOCOLS:
            complain(logical_id, f"nothing is sent by {found['Protocol']}")
        elif not str(found["TopicArn"]).startswith(f"arn:aws:sns:{REGION}:{ACCOUNT}:"):
            complain(logical_id, f"{found['TopicArn']} is no topic of this account and region")
        else:
            policy = found.get("FilterPolicy")
            if isinstance(policy, str):
                policy = json.loads(policy)
            if policy:
                compile_policy(policy, found.get("FilterPolicyScope"))  # refuses what AWS does
            yield {**found, "FilterPolicy": policy or None}


def _all_subscriptions(template: Template, names: Names) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for logical_id, raw in of_type(template, "AWS::SNS::Topic"):
        for item in names.resolve(raw.get("Subscription") or []):
            yield logical_id, {**item, "TopicArn": names.ref(logical_id)}
    for logical_id, raw in of_type(template, "AWS::SNS::Subscription"):
        found = names.resolve(dict(raw))
        if not found.get("Endpoint"):
            raise TemplateError("Endpoint is missing")
        yield logical_id, found
