"""The calls for event source mappings."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from twolane_local.aws.rest_json import Call, Members, RefusedError

if TYPE_CHECKING:
    from twolane_local.aws.event_source_mapping import EventSourceMapping, EventSourceMappings


class EventSourceMappingOperations:
    """Lists mappings, gets one, enables and disables it; all else is set in the template.

    https://docs.aws.amazon.com/lambda/latest/api/API_UpdateEventSourceMapping.html
    """

    def __init__(self, mappings: EventSourceMappings) -> None:
        self._mappings = mappings

    async def list_event_source_mappings(self, call: Call) -> Members:
        described = [describe_mapping(one, mapping) for one, mapping in self._mappings]
        found = [one for one in described if _matches_query(one, call.params)]
        return {"EventSourceMappings": found}

    async def get_event_source_mapping(self, call: Call) -> Members:
        return describe_mapping(*self._named(call))

    async def update_event_source_mapping(self, call: Call) -> Members:
        identity, mapping = self._named(call)
        if set(call.params) - {"UUID", "Enabled", "FunctionName"}:
            raise RefusedError(
                400, "InvalidParameterValueException",
                "Here only Enabled can be changed; change the rest in the template.",
            )  # fmt: skip
        mapping.enabled = call.params.get("Enabled", mapping.enabled)
        return describe_mapping(identity, mapping)

    def _named(self, call: Call) -> tuple[str, EventSourceMapping]:
        identity = call.params["UUID"]
        mapping = self._mappings.get(identity)
        if mapping is None:
            raise RefusedError(
                404, "ResourceNotFoundException", "The resource you requested does not exist."
            )
        return identity, mapping


def describe_mapping(identity: str, mapping: EventSourceMapping) -> dict[str, Any]:
    """A mapping as the API returns it.

    https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html
    """
    spec = mapping.spec
    shown: dict[str, Any] = {
        "UUID": identity,
        "EventSourceArn": spec.queue_arn,
        "FunctionArn": f"arn:aws:lambda:us-east-1:123456789012:function:{mapping.target}",
        "BatchSize": spec.batch_size,
        "MaximumBatchingWindowInSeconds": int(spec.batching_window_s),
        "State": "Enabled" if mapping.enabled else "Disabled",
        "StateTransitionReason": "USER_INITIATED",
        "FunctionResponseTypes": (
            ["ReportBatchItemFailures"] if spec.report_batch_item_failures else []
        ),
    }
    if spec.maximum_concurrency is not None:
        shown["ScalingConfig"] = {"MaximumConcurrency": spec.maximum_concurrency}
    if spec.minimum_pollers is not None or spec.maximum_pollers is not None:
        pollers = {"MinimumPollers": spec.minimum_pollers, "MaximumPollers": spec.maximum_pollers}
        shown["ProvisionedPollerConfig"] = {
            name: number for name, number in pollers.items() if number is not None
        }
    if spec.filter_patterns:
        filters = [{"Pattern": json.dumps(pattern)} for pattern in spec.filter_patterns]
        shown["FilterCriteria"] = {"Filters": filters}
    return shown


def _matches_query(shown: dict[str, Any], query: Members) -> bool:
    function = query.get("FunctionName", "")
    source = query.get("EventSourceArn", shown["EventSourceArn"])
    same_function = not function or shown["FunctionArn"].endswith(f":{function.rpartition(':')[2]}")
    return same_function and bool(source == shown["EventSourceArn"])
