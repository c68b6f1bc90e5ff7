"""Builds the model of a stack from an expanded template: functions, routes, queues, sources.

Each resource is one of three: *ours* (the emulator runs it), *moto's* (it goes into the stack that
moto creates), or *not emulated*, which a note says by name and line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from twolane_local.aws.lambda_.code import UnpackedCode, process_folders
from twolane_local.aws.sqs import attributes as queue_attributes
from twolane_local.errors import LocalError, TemplateError
from twolane_local.model import QueueSpec, Stack
from twolane_local.template import functions, routes, sources
from twolane_local.template import transforms as include
from twolane_local.template.moto_part import moto_template
from twolane_local.template.names import Names
from twolane_local.template.placeholders import ExternalValues
from twolane_local.template.shape import check_circles, check_names
from twolane_local.template.sources import FileSystems
from twolane_local.template.yaml import Notes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from twolane_local.template import Template

#: The emulator runs these, or they have no meaning on one machine (roles, permissions, stages).
OURS = (
    "AWS::Lambda::", "AWS::ApiGateway::", "AWS::ApiGatewayV2::", "AWS::Scheduler::",
    "AWS::Events::Rule", "AWS::IAM::", "AWS::EFS::", "AWS::SQS::QueuePolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SNS::Subscription", "AWS::Events::EventBusPolicy", "AWS::S3::BucketPolicy",
    "Custom::S3BucketNotifications", "AWS::Logs::", "AWS::CloudWatch::", "AWS::CDK::Metadata",
)  # fmt: skip
_DOMAIN = "each API is served at its own local address only"
#: Types that are not emulated although they are ours, each with the reason.
_NOT_EMULATED = {
    "AWS::ApiGateway::DomainName": _DOMAIN,
    "AWS::ApiGateway::DomainNameV2": _DOMAIN,
    "AWS::ApiGatewayV2::DomainName": _DOMAIN,
    "AWS::ApiGateway::VpcLink": "there is no VPC here",
    "AWS::ApiGatewayV2::VpcLink": "there is no VPC here",
    "AWS::Logs::SubscriptionFilter": "log lines are not sent anywhere",
    "AWS::CloudFormation::Stack": "its template is not on this machine",
    "AWS::Lambda::CodeSigningConfig": "code is not checked for signatures",
}
#: Reading a value of the wrong form may raise any of these.
_UNREADABLE = (LocalError, TypeError, ValueError, LookupError, AttributeError, RecursionError)


@dataclass(frozen=True, slots=True)
class BuildContext:
    """The addresses and values of this machine that a stack is built with."""

    aws_url: str
    #: Returns the local address of an API.
    base_url: Callable[[str], str]
    #: Returns the values of resources that moto holds, or raises ``KeyError``.
    elsewhere: Callable[[str, str | None], Any]
    unpacked: UnpackedCode = field(default_factory=process_folders)
    #: Values of other stacks' exports.
    imports: Mapping[str, str] = field(default_factory=dict)
    #: Returns the value of a dynamic reference (``ssm:/a/name``).
    look_up: Callable[[str], str | None] = lambda _: None
    #: The folder of file systems, by default a temporary one.
    file_systems: Path | None = None


def build(template: Template, context: BuildContext) -> tuple[Stack, list[str]]:
    """Return the stack, and a line for each resource that is not emulated or cannot run."""
    external = ExternalValues(context.imports, context.look_up)
    names = Names(
        template,
        aws_url=context.aws_url,
        base_url=context.base_url,
        elsewhere=context.elsewhere,
        external=external,
    )
    notes = Notes(template.source)
    for logical_id, why in include.not_local(template.resources):
        notes.not_emulated(logical_id, why)
    for logical_id, resource in template.resources.items():
        if routes.is_websocket_api(resource):
            notes.not_emulated(logical_id, "APIs of WebSockets are not served")
        elif resource["Type"] in _NOT_EMULATED:
            notes.not_emulated(logical_id, _NOT_EMULATED[resource["Type"]])
    try:
        check_circles(template, names)
        check_names(template, names)
        stack = _read_stack(template, names, context, notes)
    except _UNREADABLE as error:
        raise _located(error, template, names, context) from error
    lines = notes.lines
    for (logical_id, attribute), kind in names.unknown_attributes.items():
        lines.append(
            f"{template.source.where(logical_id)}: {logical_id}.{attribute} is a placeholder: "
            f"{kind} has no such attribute in CloudFormation's schema, and AWS may refuse it"
        )
    lines += [f"{template.source.path}: {note}" for note in external.notes()]
    known = {function.name for function in stack.functions}
    wanted = {route.function for route in stack.routes if route.function}
    missing = sorted(wanted - known)
    if missing:
        raise TemplateError(
            f"{template.source.path}: {missing[0]!r} receives events, but is not a function of "
            "this template"
        )
    return stack, lines


def _read_stack(template: Template, names: Names, context: BuildContext, notes: Notes) -> Stack:
    unpacked = context.unpacked
    file_systems = FileSystems(
        template, names, lambda: context.file_systems or unpacked.folder("file-systems")
    )
    layers = functions.Layers(template, names, unpacked, notes)
    specs = tuple(functions.read_functions(template, names, layers, file_systems, notes))
    qualifiers = {spec.name: spec.qualifiers for spec in specs}
    outputs = {
        name: _output(names.resolve(value), context) for name, value in template.outputs.items()
    }
    return Stack(
        name=template.stack_name,
        functions=specs,
        layers=tuple(layers),
        permissions=tuple(functions.read_permissions(template, names)),
        routes=routes.read_routes(template, names, notes, qualifiers),
        queues=tuple(_read_queues(template, names)),
        mappings=tuple(sources.read_mappings(template, names, notes)),
        schedules=tuple(sources.read_schedules(template, names, notes)),
        schedule_groups=tuple(
            names.name(logical_id)
            for logical_id, _ in template.of_type("AWS::Scheduler::ScheduleGroup")
        ),
        outputs=outputs,
        moto_template=moto_template(template, names, OURS, notes, outputs),
        files=template.files,
    )


def _located(
    error: BaseException, template: Template, names: Names, context: BuildContext
) -> TemplateError:
    """Return the error with file, line and field; it reads the resources again, one by one."""
    source = template.source
    if isinstance(error, TemplateError) and str(error).startswith(f"{source.path}"):
        return error
    for logical_id, resource in template.resources.items():
        alone = replace(template, resources={logical_id: resource}, outputs={})
        try:
            _read_stack(alone, names, context, Notes(source))
        except _UNREADABLE as own:
            why = _reason(own)
            properties = resource.get("Properties") or {}
            fields = [key for key in properties if re.search(rf"\b{re.escape(key)}\b", why)]
            fields = fields or [key for key in properties if _breaks(names, properties[key])]
            where = source.where(logical_id, "Properties", *fields[:1])
            field = f".{fields[0]}" if fields and fields[0] not in why else ""
            return TemplateError(f"{where}: {logical_id}{field}: {why}")
    for name, value in template.outputs.items():
        if _breaks(names, value):
            return TemplateError(f"{source.at('Outputs', name, 'Value')}: {name}: {_reason(error)}")
    return TemplateError(f"{source.path}: {_reason(error)}")


def _reason(error: BaseException) -> str:
    if isinstance(error, LocalError):
        return " ".join(str(error).split())
    if isinstance(error, KeyError):
        return f"{error.args[0]} is missing"
    if isinstance(error, RecursionError):
        return "it refers to itself, or is nested too deep"
    return f"it does not have the form that CloudFormation takes ({error!r:.100})"


def _breaks(names: Names, value: Any) -> bool:
    try:
        names.resolve(value)
    except _UNREADABLE:
        return True
    return False


def _output(value: Any, context: BuildContext) -> str:
    """Return an output as text; an API's public address becomes the local one."""
    text = value if isinstance(value, str) else json.dumps(value)
    head, mark, tail = text.partition(".execute-api.")
    if mark and head.startswith("https://"):
        rest = tail.partition("amazonaws.com")[2]
        return context.base_url(head.removeprefix("https://")) + rest
    return text


def _read_queues(template: Template, names: Names) -> Iterator[QueueSpec]:
    for logical_id, raw in template.of_type("AWS::SQS::Queue"):
        properties = names.resolve(dict(raw))
        attributes = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in properties.items()
            if key not in {"QueueName", "Tags"}
        }
        # The API refuses FifoQueue "false" for a standard queue.
        if attributes.get("FifoQueue") == "false":
            del attributes["FifoQueue"]
        name, fifo = names.name(logical_id), "FifoQueue" in attributes
        queue_attributes.check_name(name, fifo=fifo)
        queue_attributes.check(attributes, fifo=fifo)
        yield QueueSpec(name, attributes)
