"""From an expanded template to what the emulator runs: functions, routes, queues, sources.

Each resource is one of three: *ours* (the emulator plays it), *moto's* (it goes into the stack that
moto creates), or *not emulated*, which is said by name and line.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from twolane_local.aws.sqs import attributes as queue_attributes
from twolane_local.errors import LocalError, TemplateError
from twolane_local.model import QueueSpec, Stack
from twolane_local.template import functions, routes, sources
from twolane_local.template.file_systems import FileSystems
from twolane_local.template.functions import Packages, for_process
from twolane_local.template.limits import check_circles, check_names
from twolane_local.template.moto_part import moto_template
from twolane_local.template.names import Names
from twolane_local.template.routes import complain_of_unplayed
from twolane_local.template.stand_ins import Outside

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from twolane_local.template import Template

#: Played by the emulator, or without meaning on one machine (roles, permissions, stages).
OURS = (
    "AWS::Lambda::", "AWS::ApiGateway::", "AWS::ApiGatewayV2::", "AWS::Scheduler::",
    "AWS::Events::Rule", "AWS::IAM::", "AWS::EFS::", "AWS::SQS::QueuePolicy",
    "AWS::SNS::TopicPolicy",
    "AWS::SNS::Subscription", "AWS::Events::EventBusPolicy", "AWS::S3::BucketPolicy",
    "Custom::S3BucketNotifications", "AWS::Logs::", "AWS::CloudWatch::", "AWS::CDK::Metadata",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Facts:
    """Where things are on this machine."""

    aws_url: str
    base_url: Callable[[str], str]
    elsewhere: Callable[[str, str | None], Any]
    #: Keeps the code that is no folder.
    packages: Packages = field(default_factory=for_process)
    imports: Mapping[str, str] = field(default_factory=dict)
    look_up: Callable[[str], str | None] = lambda _: None
    #: Where file systems are kept, if not beside that code.
    file_systems: Path | None = None


def build(template: Template, facts: Facts) -> tuple[Stack, list[str]]:
    """The stack, and a line for each thing in the template that is not emulated or cannot run."""
    outside = Outside(facts.imports, facts.look_up)
    names = Names(
        template,
        aws_url=facts.aws_url,
        base_url=facts.base_url,
        elsewhere=facts.elsewhere,
        outside=outside,
    )
    notes: list[str] = []

    def complain(logical_id: str, why: str) -> None:
        notes.append(f"{template.source.where(logical_id)}: {logical_id} is not emulated: {why}")

    def cannot_run(logical_id: str, why: str) -> None:
        where = template.source.where(logical_id)
        notes.append(f"{where}: {logical_id} cannot run here, its invocations fail: {why}")

    def remark(logical_id: str, what: str) -> None:
        notes.append(f"{template.source.where(logical_id)}: {logical_id}: {what}")

    complain_of_unplayed(template.resources, complain)
    try:
        check_circles(template, names)
        check_names(template, names)
        stack = _read(
            template, names, facts, complain=complain, cannot_run=cannot_run, remark=remark
        )
    except _UNREADABLE as error:
        raise _located(error, template, names, facts) from error
    for (logical_id, attribute), kind in names.doubtful.items():
        notes.append(
            f"{template.source.where(logical_id)}: {logical_id}.{attribute} is a placeholder: "
            f"{kind} has no such attribute in CloudFormation's schema, and AWS may refuse it"
        )
    notes += [f"{template.source.path}: {note}" for note in outside.notes()]
    _check_functions(template, stack)
    return stack, notes


#: What reading a value of the wrong form raises, and what a checked value does.
_UNREADABLE = (LocalError, TypeError, ValueError, LookupError, AttributeError, RecursionError)


def _read(
    template: Template,
    names: Names,
    facts: Facts,
    *,
    complain: Callable[[str, str], None],
    cannot_run: Callable[[str, str], None],
    remark: Callable[[str, str], None],
) -> Stack:
    file_systems = FileSystems(
        template, names, lambda: facts.file_systems or facts.packages.folder("file-systems")
    )
    specs = tuple(
        functions.functions(
            template, names, facts.packages, file_systems, cannot_run=cannot_run, remark=remark
        )
    )
    outputs = {
        name: local_address(names.resolve(value), facts) for name, value in template.outputs.items()
    }
    return Stack(
        name=template.stack_name,
        functions=specs,
        routes=routes.routes(
            template.resources, names, complain, {spec.name: spec.qualifiers for spec in specs}
        ),
        queues=tuple(_queues(template, names)),
        mappings=tuple(sources.mappings(template, names, complain)),
        schedules=tuple(sources.schedules(template, names, complain)),
        schedule_groups=tuple(
            names.name(logical_id)
            for logical_id, _ in sources.of_type(template, "AWS::Scheduler::ScheduleGroup")
        ),
        outputs=outputs,
        moto_template=moto_template(template, names, OURS, complain, outputs),
        files=template.files,
    )


def _silent(_logical_id: str, _what: str) -> None:
    """What is read again was said already."""


def _located(error: BaseException, template: Template, names: Names, facts: Facts) -> TemplateError:
    """The error with file, line and field: what cannot be read is read again, one by one."""
    source = template.source
    if isinstance(error, TemplateError) and str(error).startswith(f"{source.path}"):
        return error
    for logical_id, resource in template.resources.items():
        alone = replace(template, resources={logical_id: resource}, outputs={})
        try:
            _read(alone, names, facts, complain=_silent, cannot_run=_silent, remark=_silent)
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


def local_address(value: Any, facts: Facts) -> str:
    """An output's text; an API's public address becomes the local one."""
    text = value if isinstance(value, str) else json.dumps(value)
    head, mark, tail = text.partition(".execute-api.")
    if mark and head.startswith("https://"):
        rest = tail.partition("amazonaws.com")[2]
        return facts.base_url(head.removeprefix("https://")) + rest
    return text


def _queues(template: Template, names: Names) -> Iterator[QueueSpec]:
    for logical_id, raw in sources.of_type(template, "AWS::SQS::Queue"):
        properties = names.resolve(dict(raw))
        attributes = {
            key: value if isinstance(value, str) else json.dumps(value)
            for key, value in properties.items()
            if key not in {"QueueName", "Tags"}
        }
        # The API knows no standard queue that says so: it refuses "false".
        if attributes.get("FifoQueue") == "false":
            del attributes["FifoQueue"]
        name, fifo = names.name(logical_id), "FifoQueue" in attributes
        queue_attributes.check_name(name, fifo=fifo)
        queue_attributes.check(attributes, fifo=fifo)
        yield QueueSpec(name, attributes)


def _check_functions(template: Template, stack: Stack) -> None:
    known = {function.name for function in stack.functions}
    wanted = {route.function for route in stack.routes if route.function}
    missing = sorted(wanted - known)
    if missing:
        raise TemplateError(
            f"{template.source.path}: {missing[0]!r} receives events, but is no function of "
            "this template"
        )
