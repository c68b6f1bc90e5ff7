"""The calls for event source mappings, and a mapping as a document.

A document holds the parameters of CreateEventSourceMapping, which a template writes alike:
https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
``FunctionName`` is ``name`` or ``name:qualifier`` there.
"""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

from twolane_local.aws.event_source_mapping import (
    CREATING,
    DELETING,
    DISABLED,
    DISABLING,
    ENABLED,
    ENABLING,
    UPDATING,
    MappingError,
    check,
)
from twolane_local.aws.events.patterns import PatternError, parse_filter, read_filters
from twolane_local.aws.invocation import resolve, service_in_arn
from twolane_local.aws.lambda_.resources import (
    Functions,
    conflict,
    function_arn,
    invalid,
    not_found,
    target_of_call,
)
from twolane_local.aws.rest_json import Call, Members, RefusedError
from twolane_local.aws.sqs.errors import QueueDoesNotExistError
from twolane_local.model import ACCOUNT, REGION, QueueMappingSpec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from twolane_local.aws.changes import Changes, Document
    from twolane_local.aws.event_source_mapping import EventSourceMappings
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec

#: The kind of a mapping's document; its key is the UUID.
KIND = "mapping"
#: The parameters of a queue's mapping.
_PARAMETERS = frozenset(
    {
        "EventSourceArn", "FunctionName", "Enabled", "BatchSize", "MaximumBatchingWindowInSeconds",
        "FilterCriteria", "FunctionResponseTypes", "ScalingConfig", "ProvisionedPollerConfig",
        "MetricsConfig", "KMSKeyArn",
    }
)  # fmt: skip
#: Those whose empty value removes them, or is as good as none.
_REMOVABLE = frozenset(
    {"FilterCriteria", "ScalingConfig", "ProvisionedPollerConfig", "MetricsConfig", "KMSKeyArn"}
)
_SHOWN = ("FilterCriteria", "MetricsConfig", "KMSKeyArn")
_MISSING = "The resource you requested does not exist."
#: Sources whose mappings are kept and shown, and not read, by the service in the source's ARN.
OTHER_SOURCES = {
    "dynamodb": "a DynamoDB stream",
    "kinesis": "a Kinesis stream",
    "kafka": "a Kafka cluster",
    "mq": "a broker of Amazon MQ",
    "rds": "changes in DocumentDB",
}
_SELF_MANAGED = "a self-managed Kafka cluster"
_STREAMS = frozenset({"dynamodb", "kinesis"})
#: https://docs.aws.amazon.com/lambda/latest/api/API_CreateEventSourceMapping.html
_DEFAULTS: Document = {
    "Enabled": True, "BatchSize": 10, "MaximumBatchingWindowInSeconds": 0,
    "FunctionResponseTypes": [],
}  # fmt: skip
_STREAM_DEFAULTS: Document = {
    **_DEFAULTS, "BatchSize": 100, "BisectBatchOnFunctionError": False,
    "DestinationConfig": {"OnFailure": {}}, "MaximumRecordAgeInSeconds": -1,
    "MaximumRetryAttempts": -1, "ParallelizationFactor": 1, "TumblingWindowInSeconds": 0,
}  # fmt: skip


def service_of(document: Mapping[str, Any]) -> str:
    """The service that is the event source, ``self-managed`` for a Kafka cluster without an ARN."""
    if "SelfManagedEventSource" in document:
        return "self-managed"
    return service_in_arn(str(document.get("EventSourceArn", "")))


def other_source(document: Mapping[str, Any]) -> str | None:
    """The event source in words if it is not read, ``None`` for a queue."""
    service = service_of(document)
    return None if service == "sqs" else OTHER_SOURCES.get(service, _SELF_MANAGED)


def specification(identity: str, document: Document) -> QueueMappingSpec:
    """The mapping of a document; raises ``PatternError`` for filters that AWS refuses."""
    function, _, qualifier = str(document["FunctionName"]).partition(":")
    pollers = document.get("ProvisionedPollerConfig") or {}
    filters = read_filters(document.get("FilterCriteria") or {})
    return QueueMappingSpec(
        function=function,
        qualifier=qualifier,
        queue_arn=document["EventSourceArn"],
        batch_size=document.get("BatchSize", 10),
        batching_window_s=document.get("MaximumBatchingWindowInSeconds", 0),
        maximum_concurrency=(document.get("ScalingConfig") or {}).get("MaximumConcurrency"),
        minimum_pollers=pollers.get("MinimumPollers"),
        maximum_pollers=pollers.get("MaximumPollers"),
        report_batch_item_failures="ReportBatchItemFailures"
        in (document.get("FunctionResponseTypes") or ()),
        filter_patterns=tuple(map(parse_filter, filters)),
        enabled=document.get("Enabled", True),
        uuid=identity,
        shown={name: document[name] for name in _SHOWN if document.get(name)},
    )


def document_of(spec: QueueMappingSpec) -> Document:
    """The document of a mapping."""
    document: Document = {
        "EventSourceArn": spec.queue_arn,
        "FunctionName": _target(spec),
        "Enabled": spec.enabled,
        "BatchSize": spec.batch_size,
        "MaximumBatchingWindowInSeconds": int(spec.batching_window_s),
        "FunctionResponseTypes": (
            ["ReportBatchItemFailures"] if spec.report_batch_item_failures else []
        ),
        **{name: spec.shown[name] for name in _SHOWN if name in spec.shown},
    }
    if spec.filter_patterns and "FilterCriteria" not in document:
        filters = [{"Pattern": json.dumps(pattern)} for pattern in spec.filter_patterns]
        document["FilterCriteria"] = {"Filters": filters}
    if spec.maximum_concurrency is not None:
        document["ScalingConfig"] = {"MaximumConcurrency": spec.maximum_concurrency}
    pollers = {"MinimumPollers": spec.minimum_pollers, "MaximumPollers": spec.maximum_pollers}
    if given := {name: number for name, number in pollers.items() if number is not None}:
        document["ProvisionedPollerConfig"] = given
    return document


def described(identity: str, document: Document, state: str, modified: float) -> Members:
    """A mapping as the API returns it. Those of queues have no ``LastProcessingResult``.

    https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html
    """
    shown = {name: document[name] for name in document.keys() - {"Enabled", "FunctionName"}}
    if other_source(document) is not None:
        shown["LastProcessingResult"] = "No records processed"
    return {
        **shown,
        "UUID": identity,
        "FunctionArn": function_arn(document["FunctionName"]),
        "EventSourceMappingArn": arn_of(identity),
        "LastModified": modified,
        "State": state,
        "StateTransitionReason": (
            "User action" if service_of(document) in _STREAMS else "USER_INITIATED"
        ),
    }


def arn_of(identity: str) -> str:
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:event-source-mapping:{identity}"


def _target(spec: QueueMappingSpec) -> str:
    return f"{spec.function}:{spec.qualifier}" if spec.qualifier else spec.function


class EventSourceMappingOperations:
    """Creates, changes, deletes and reads mappings, those of the template too."""

    def __init__(
        self,
        changes: Changes,
        running: EventSourceMappings,
        queues: QueueService,
        functions: Mapping[str, FunctionSpec],
        journal: Journal,
    ) -> None:
        """``functions`` is read at each call, so it may change."""
        self._changes, self._running, self._journal = changes, running, journal
        self._queues, self._functions, self._clock = queues, functions, queues.clock

    async def create_event_source_mapping(self, call: Call) -> Members:
        _check_source(call.params)
        async with self._changes.changing():
            document = _complete({**call.params, "FunctionName": self._function(call)})
            identity = str(uuid.uuid4())
            if (other := other_source(document)) is None:
                self._check_queue(_checked(identity, document))
            else:
                _check_filters(document)
            self._check_duplicate(identity, document)
            self._changes.put(KIND, identity, document)
            if tags := call.params.get("Tags"):
                self._changes.put("tags", arn_of(identity), dict(tags))
        if other is not None:
            self._warn(document, other)
        state = CREATING if document["Enabled"] else DISABLED
        return described(identity, document, state, self._clock.time())

    async def update_event_source_mapping(self, call: Call) -> Members:
        identity, given = call.params["UUID"], dict(call.params)
        del given["UUID"]
        async with self._changes.changing():
            former = self._document(identity, "update")
            is_queue = other_source(former) is None
            if is_queue:
                _check_parameters(given)
            if "FunctionName" in given:
                given["FunctionName"] = self._function(call)
            document = _complete({**former, **given})
            moved = document["FunctionName"] != former["FunctionName"]
            if not is_queue:
                _check_filters(document)
            elif (spec := _checked(identity, document)) and moved:
                self._check_queue(spec)
            if moved:
                self._check_duplicate(identity, document)
            self._changes.put(KIND, identity, document)
        state = UPDATING
        if document["Enabled"] is not former["Enabled"]:
            state = ENABLING if document["Enabled"] else DISABLING
        return described(identity, document, state, self._clock.time())

    async def delete_event_source_mapping(self, call: Call) -> Members:
        identity = call.params["UUID"]
        async with self._changes.changing():
            document = self._document(identity, "delete")
            self._changes.delete(KIND, identity)
            self._changes.delete("tags", arn_of(identity))
        return described(identity, document, DELETING, self._clock.time())

    async def get_event_source_mapping(self, call: Call) -> Members:
        identity = call.params["UUID"]
        document = self._changes.get(KIND, identity)
        if document is not None:
            return self._described(identity, document)
        if (ending := self._running.get(identity)) is None:
            raise not_found(_MISSING)
        return self._described(identity, document_of(ending.spec))

    async def list_event_source_mappings(self, call: Call) -> Members:
        source = call.params.get("EventSourceArn")
        target = target_of_call(call).key if "FunctionName" in call.params else None
        found = [
            (identity, document)
            for identity, document in sorted(self._all())
            if (not source or document.get("EventSourceArn") == source)
            and (target is None or _same(document["FunctionName"], target))
        ]
        marker, most = call.params.get("Marker", ""), call.params.get("MaxItems", 100)
        rest = [each for each in found if each[0] >= marker]
        return {
            "EventSourceMappings": [_listed(self._described(*each)) for each in rest[:most]],
            "NextMarker": rest[most][0] if len(rest) > most else None,
        }

    def _all(self) -> Iterator[tuple[str, Document]]:
        documents = self._changes.all(KIND)
        yield from documents.items()
        for identity, ending in self._running:
            if identity not in documents:
                yield identity, document_of(ending.spec)

    def _described(self, identity: str, document: Document) -> Members:
        running = self._running.get(identity)
        if running is None:  # another source, or an emulator that runs none
            state = ENABLED if document["Enabled"] else DISABLED
            return described(identity, document, state, self._clock.time())
        return described(identity, document, running.state, running.changed_at)

    def _document(self, identity: str, doing: str) -> Document:
        """A mapping that may be changed now."""
        document, running = self._changes.get(KIND, identity), self._running.get(identity)
        if running is not None and running.state in (CREATING, UPDATING, DELETING):
            message = f"Cannot {doing} the event source mapping because it is in use."
            raise RefusedError(400, "ResourceInUseException", message)
        if document is None:
            raise not_found(_MISSING)
        return document

    def _function(self, call: Call) -> str:
        target = target_of_call(call)
        try:
            resolve(self._functions, target.key)
        except KeyError:
            raise invalid("Function does not exist") from None
        Functions(self._changes).check_tenancy(target.name, "Event source mapping")
        return target.key

    def _check_queue(self, spec: QueueMappingSpec) -> None:
        try:
            visibility = self._queues.get_by_arn(spec.queue_arn).settings.visibility_s
        except QueueDoesNotExistError:
            raise invalid(
                "Error occurred while ReceiveMessage. SQS Error Code: "
                "AWS.SimpleQueueService.NonExistentQueue. SQS Error Message: The specified queue "
                "does not exist."
            ) from None
        # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
        function, _ = resolve(self._functions, _target(spec))
        if visibility < function.timeout_s:
            raise invalid(
                f"Queue visibility timeout: {visibility:g} seconds is less than Function timeout: "
                f"{function.timeout_s:g} seconds"
            )

    def _check_duplicate(self, identity: str, document: Document) -> None:
        name, arn = document["FunctionName"], document.get("EventSourceArn")
        for other, existing in self._all():
            same = arn is not None and existing.get("EventSourceArn") == arn and other != identity
            if same and _same(existing["FunctionName"], name):
                queue = service_of(document) == "sqs"
                source = "An event source mapping with SQS" if queue else "The event source"
                raise conflict(
                    f'{source} arn (" {arn} ") and function (" {name} ") '
                    f"{'' if queue else 'provided mapping '}already exists. Please update or "
                    f"delete the existing mapping with UUID {other}"
                )

    def _warn(self, document: Document, source: str) -> None:
        function = document["FunctionName"].partition(":")[0]
        self._journal.record(
            "log", function=function, level="WARNING",
            message=f"{function} gets nothing from {source}: only queues are read",
        )  # fmt: skip


def _listed(members: Members) -> Members:
    """A mapping in a list, which shows no filters that a key encrypts.

    https://docs.aws.amazon.com/lambda/latest/api/API_EventSourceMappingConfiguration.html
    """
    hidden = {"FilterCriteria"} if "KMSKeyArn" in members else set()
    return {name: value for name, value in members.items() if name not in hidden}


def _complete(given: Mapping[str, Any]) -> Document:
    """The document of parameters, with the defaults, and without what is empty."""
    service = service_of(given)
    defaults = _DEFAULTS if service == "sqs" else {**_DEFAULTS, "BatchSize": 100}
    return {
        **(_STREAM_DEFAULTS if service in _STREAMS else defaults),
        **{
            name: value
            for name, value in given.items()
            if (name in _PARAMETERS or (service != "sqs" and name != "Tags"))
            and not (name in _REMOVABLE and _is_empty(value))
        },
    }


def _is_empty(value: Any) -> bool:
    return not (any(value.values()) if isinstance(value, dict) else value)


def _checked(identity: str, document: Document) -> QueueMappingSpec:
    try:
        spec = specification(identity, document)
        check(spec)
    except PatternError:
        raise invalid("Invalid filter pattern definition.") from None
    except MappingError as refused:
        raise invalid(refused.reason) from None
    return spec


def _check_filters(document: Document) -> None:
    try:
        read_filters(document.get("FilterCriteria") or {})
    except PatternError:
        raise invalid("Invalid filter pattern definition.") from None


def _check_source(params: Members) -> None:
    service = service_of(params)
    if service not in {"sqs", "self-managed", *OTHER_SOURCES}:
        raise invalid("Unrecognized event source.")
    if service == "sqs":
        _check_parameters(params)
    position = params.get("StartingPosition")
    if service in _STREAMS and position is None:
        raise invalid(
            "1 validation error detected: Value null at 'startingPosition' failed to satisfy "
            "constraint: Member must not be null."
        )
    if service == "dynamodb" and position == "AT_TIMESTAMP":
        arn = params["EventSourceArn"]
        raise invalid(f"Unsupported starting position for arn type: {arn}")


def _check_parameters(params: Members) -> None:
    """Refuse those of other event sources; a value that switches nothing on is ignored."""
    if params.get("StartingPosition"):
        raise invalid("StartingPosition is not valid for SQS event sources.")
    pollers = params.get("ProvisionedPollerConfig") or {}
    unknown = [*(params.keys() - _PARAMETERS - {"Tags"}), *(pollers.keys() & {"PollerGroupName"})]
    for name in sorted(unknown):
        if params.get(name) or pollers.get(name):
            raise invalid(f"Unsupported {name} parameter for given event source mapping type.")


def _same(one: str, other: str) -> bool:
    return one.removesuffix(":$LATEST") == other.removesuffix(":$LATEST")
