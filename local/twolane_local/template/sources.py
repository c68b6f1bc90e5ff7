"""Reads what functions are connected to, apart from requests: their sources and file systems.

Sources are mappings, schedules, rules and subscriptions. A file system becomes a folder on this
machine: https://docs.aws.amazon.com/lambda/latest/dg/configuration-filesystem.html
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local.aws.event_source_mapping import check as check_mapping
from twolane_local.aws.events.patterns import (
    compile_pattern,
    compile_policy,
    parse_filter,
    read_filters,
)
from twolane_local.aws.invocation import service_in_arn, target_of
from twolane_local.aws.lambda_ import mounts
from twolane_local.aws.lambda_.mappings import other_source
from twolane_local.aws.scheduler.schedule import from_spec
from twolane_local.aws.scheduler.targets import is_supported
from twolane_local.errors import TemplateError
from twolane_local.model import ACCOUNT, REGION, QueueMappingSpec, ScheduleSpec
from twolane_local.model.openapi import is_true
from twolane_local.template.shape import whole_number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from twolane_local.model import FunctionSpec
    from twolane_local.template import Template
    from twolane_local.template.names import Names
    from twolane_local.template.yaml import Notes


#: The targets that an event pattern's rule reaches, in the emulator or in moto.
_RULE_TARGETS = frozenset({"lambda", "sqs", "sns", "events", "logs"})
_PROTOCOLS = frozenset({"lambda", "sqs", "http", "https"})


def read_mappings(template: Template, names: Names, notes: Notes) -> Iterator[QueueMappingSpec]:
    """Yield the event source mappings of queues."""
    for logical_id, raw in template.of_type("AWS::Lambda::EventSourceMapping"):
        properties = names.resolve(dict(raw))
        arn = str(properties.get("EventSourceArn", ""))
        function, _, qualifier = target_of(str(properties["FunctionName"])).partition(":")
        if (source := other_source(properties)) is not None:
            why = f"{function} gets nothing from {source}: only queues are read"
            notes.not_emulated(logical_id, why)
            continue
        pollers = properties.get("ProvisionedPollerConfig") or {}
        filters = read_filters(properties.get("FilterCriteria", {}))  # refuses what AWS refuses
        shown = {
            "FilterCriteria": filters and {"Filters": [{"Pattern": text} for text in filters]},
            "MetricsConfig": properties.get("MetricsConfig"),
            "KMSKeyArn": properties.get("KmsKeyArn"),
            "Tags": {str(tag["Key"]): tag["Value"] for tag in properties.get("Tags") or ()},
        }
        spec = QueueMappingSpec(
            function=function,
            qualifier=qualifier,
            queue_arn=arn,
            batch_size=whole_number(properties, "BatchSize", 10, 1, None),
            batching_window_s=whole_number(
                properties, "MaximumBatchingWindowInSeconds", 0, 0, None
            ),
            maximum_concurrency=_optional_int(
                (properties.get("ScalingConfig") or {}).get("MaximumConcurrency")
            ),
            minimum_pollers=_optional_int(pollers.get("MinimumPollers")),
            maximum_pollers=_optional_int(pollers.get("MaximumPollers")),
            report_batch_item_failures="ReportBatchItemFailures"
            in (properties.get("FunctionResponseTypes") or ()),
            filter_patterns=tuple(map(parse_filter, filters)),
            enabled=is_true(properties.get("Enabled", True)),
            uuid=logical_id,
            shown={name: value for name, value in shown.items() if value},
        )
        check_mapping(spec)
        if function in names.functions:
            yield spec
        else:
            notes.not_emulated(logical_id, f"{function} is not a function of this template")


def _optional_int(value: Any) -> int | None:
    return None if value is None else int(value)


def read_schedules(template: Template, names: Names, notes: Notes) -> Iterator[ScheduleSpec]:
    """Yield the schedules of EventBridge Scheduler, and one for each target of a scheduled rule."""
    for logical_id, spec in _all_schedules(template, names):
        from_spec(spec, now=0)  # refuses what AWS refuses
        if is_supported(spec.target_arn):
            yield spec
        else:
            notes.not_emulated(logical_id, f"nothing is sent to {spec.target_arn}")


def _all_schedules(template: Template, names: Names) -> Iterator[tuple[str, ScheduleSpec]]:
    def spec(logical_id: str, given: Any, target: Any, **more: Any) -> tuple[str, ScheduleSpec]:
        return logical_id, ScheduleSpec(
            name=names.name(logical_id),
            expression=str(given["ScheduleExpression"]),
            target_arn=str(target["Arn"]),
            input=target.get("Input"),
            enabled=given.get("State", "ENABLED") != "DISABLED",
            **more,
        )

    for logical_id, raw in template.of_type("AWS::Scheduler::Schedule"):
        found = names.resolve(dict(raw))
        zone = str(found.get("ScheduleExpressionTimezone", "UTC"))
        target = found["Target"]
        yield spec(logical_id, found, target, timezone=zone, source="scheduler", options=found)
    for logical_id, raw in template.of_type("AWS::Events::Rule"):
        found = names.resolve(dict(raw))
        if "ScheduleExpression" in found:
            for target in found.get("Targets") or ():
                yield spec(logical_id, found, target, source="rule", options={"Target": target})


def read_rules(template: Template, names: Names, notes: Notes) -> Iterator[dict[str, Any]]:
    """Yield EventBridge's rules with an event pattern, in moto's form."""
    for logical_id, raw in template.of_type("AWS::Events::Rule"):
        properties = names.resolve(dict(raw))
        pattern = properties.get("EventPattern")
        if pattern is None:
            continue
        pattern = json.loads(pattern) if isinstance(pattern, str) else pattern
        compile_pattern(pattern)  # refuses what AWS refuses
        for target in properties.get("Targets") or []:
            if service_in_arn(str(target["Arn"])) not in _RULE_TARGETS:
                notes.not_emulated(logical_id, f"nothing is sent to {target['Arn']}")
        yield {**properties, "Name": names.name(logical_id), "EventPattern": pattern}


def read_subscriptions(template: Template, names: Names, notes: Notes) -> Iterator[dict[str, Any]]:
    """Yield the subscriptions to topics, also those in the topics' own properties."""
    for logical_id, found in _all_subscriptions(template, names):
        if found["Protocol"] not in _PROTOCOLS:
            notes.not_emulated(logical_id, f"nothing is sent by {found['Protocol']}")
        elif not str(found["TopicArn"]).startswith(f"arn:aws:sns:{REGION}:{ACCOUNT}:"):
            why = f"{found['TopicArn']} is not a topic of this account and region"
            notes.not_emulated(logical_id, why)
        else:
            policy = found.get("FilterPolicy")
            if isinstance(policy, str):
                policy = json.loads(policy)
            if policy:
                compile_policy(policy, found.get("FilterPolicyScope"))  # refuses what AWS refuses
            yield {**found, "FilterPolicy": policy or None}


def _all_subscriptions(template: Template, names: Names) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for logical_id, raw in template.of_type("AWS::SNS::Topic"):
        for item in names.resolve(raw.get("Subscription") or []):
            yield logical_id, {**item, "TopicArn": names.ref(logical_id)}
    for logical_id, raw in template.of_type("AWS::SNS::Subscription"):
        found = names.resolve(dict(raw))
        if not found.get("Endpoint"):
            raise TemplateError("Endpoint is missing")
        yield logical_id, found


class FileSystems:
    """The folders of file systems, below ``root()``; access points lead to folders in them."""

    def __init__(self, template: Template, names: Names, root: Callable[[], Path]) -> None:
        self._root = root
        self._points: dict[str, Path] = {}
        for logical_id, raw in template.of_type("AWS::EFS::AccessPoint"):
            properties = names.resolve(dict(raw))
            path = str((properties.get("RootDirectory") or {}).get("Path") or "/")
            parts = [part for part in path.split("/") if part not in {"", ".", ".."}]
            folder = Path(_last(properties["FileSystemId"]), *parts)
            self._points[str(names.attribute(logical_id, "Arn"))] = folder

    def of(self, configs: Iterable[Mapping[str, Any]]) -> dict[str, Path]:
        """Create the folders of a function, and return them by their paths in it."""
        found = {}
        for config in configs:
            arn = str(config["Arn"])
            folder = self._root() / self._points.get(arn, Path(_last(arn)))
            folder.mkdir(parents=True, exist_ok=True)
            found[str(config["LocalMountPath"])] = folder
        return found


def with_mountable(
    specs: tuple[FunctionSpec, ...], prevented: str | None
) -> tuple[tuple[FunctionSpec, ...], list[str]]:
    """Return the functions with what can be mounted, and a line for each file system that cannot:
    ``prevented`` says why; with ``None``, this machine is checked.
    """
    if not any(spec.file_systems for spec in specs):
        return specs, []
    why = mounts.prevented() if prevented is None else prevented
    without = {spec.name for spec in specs if why or spec.program}
    notes = [
        f"{spec.where}: {spec.logical_id}'s file system at {path} is not mounted: "
        f"{why or 'an OS-only runtime gets none'}; a folder of that name takes its place"
        for spec in specs
        if spec.name in without
        for path in spec.file_systems
    ]
    return tuple(
        replace(spec, file_systems={}) if spec.name in without else spec for spec in specs
    ), notes


def _last(text: Any) -> str:
    return str(text).rpartition("/")[2]
