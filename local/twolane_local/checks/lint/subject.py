"""The input of the rules: a template's resources with their values, its application, its journal.

A value that is only known in a deployment (an import, a parameter without a default) is
``UNKNOWN``, and breaks no rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twolane_local import template
from twolane_local.checks.lint.physical_names import GivenName, given_names
from twolane_local.errors import TemplateError
from twolane_local.model import FunctionSpec
from twolane_local.model.openapi import function_name
from twolane_local.template.names import Names
from twolane_local.template.nested import LOCAL_BUCKET
from twolane_local.template.parameters import read_samconfig
from twolane_local.template.yaml import read_template

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from twolane_local.checks.lint.application import Application
    from twolane_local.journal import Event

#: Queue URLs begin as on AWS, so that the application accepts them.
_SQS = "https://sqs.us-east-1.amazonaws.com"
_MARKER = "twolane-unknown-"
#: ``twolane up`` gives this parameter its own Redis. Nothing listens here: an import must not need
#: one, but an application reads its address, and would not import without.
_REDIS = {"RedisUrl": "redis://127.0.0.1:9/0"}


class _Unknown:
    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Any = _Unknown()


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource of the expanded template, with its values resolved as far as possible."""

    id: str
    kind: str
    properties: Mapping[str, Any]
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def number(self, name: str, default: float) -> float | None:
        """Return a property as a number; ``None`` if it is unknown."""
        return as_number(self.properties.get(name, default))

    def flag(self, name: str) -> bool:
        return str(self.properties.get(name, False)).lower() == "true"


@dataclass(frozen=True, slots=True)
class QueueSource:
    """One event source mapping of a queue, with the queue and the function in the template."""

    mapping: Resource
    queue: Resource | None
    function: Resource | None


@dataclass(frozen=True, slots=True)
class Subject:
    """Everything that a rule can read."""

    path: Path
    resources: Mapping[str, Resource]
    names: Mapping[str, str]  # a function's or queue's name to its logical id
    text: Mapping[str, Any] = field(default_factory=dict)  # the template as written, all sections
    given_names: Mapping[str, GivenName] = field(default_factory=dict)  # by logical id
    stack_name: str | None = None  # of `samconfig.toml`
    applications: Mapping[str, Application] = field(default_factory=dict)  # by function
    journal: Sequence[Event] = ()
    inline_budget_s: float = 2.0

    def of_kind(self, *kinds: str) -> Iterator[Resource]:
        return (item for item in self.resources.values() if item.kind in kinds)

    def sources(self) -> Iterator[QueueSource]:
        """Yield every event source mapping that reads a queue."""
        for mapping in self.of_kind("AWS::Lambda::EventSourceMapping"):
            arn = str(mapping.properties.get("EventSourceArn", ""))
            if ":sqs:" in arn and str(mapping.properties.get("Enabled", True)).lower() != "false":
                function = self.find_function(mapping.properties.get("FunctionName", ""))
                yield QueueSource(mapping, self.queue(arn), function)

    def queue(self, address: str) -> Resource | None:
        """Return the queue with this ARN, URL or name."""
        name = address.rpartition(":")[2].rpartition("/")[2]
        found = self.resources.get(self.names.get(name, ""))
        return found if found is not None and found.kind == "AWS::SQS::Queue" else None

    def find_function(self, address: Any) -> Resource | None:
        """Return the function with this name or ARN, or with an alias of this ARN."""
        name = function_name(address) or ""
        found = self.resources.get(self.names.get(name, ""))
        return found if found is not None and found.kind == "AWS::Lambda::Function" else None


def as_mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def as_list(value: Any) -> list[Any]:
    """Return the value as a list, empty if it is absent or unknown."""
    if value is None or value is UNKNOWN:
        return []
    return value if isinstance(value, list) else [value]


def as_number(value: Any) -> float | None:
    """Return 30 for ``"30"`` and ``30``, and ``None`` for a value that is not a number."""
    try:
        return None if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return None


def read_subject(path: Path, parameters: Mapping[str, str]) -> Subject:
    """Read a template, raw or expanded. Raises ``TemplateError`` if SAM refuses it."""
    source = read_template(path)
    for logical_id, item in source.content["Resources"].items():
        if logical_id.startswith("Fn::ForEach::"):
            continue  # a loop of resources, which the transform expands
        if not isinstance(item, dict) or not isinstance(item.get("Type"), str):
            raise TemplateError(
                f"{source.where(logical_id)}: {logical_id} is not a resource with a Type; cfn-lint "
                "says more about it"
            )
    # A value for each parameter without a default that was not given.
    made_up = {
        name: str((declared.get("AllowedValues") or [_REDIS.get(name, f"{_MARKER}{name}")])[0])
        for name, declared in template.declared_parameters(path).items()
        if "Default" not in declared and name not in parameters
    }
    loaded = template.load(path, {**made_up, **parameters}, stack_name="local")
    names = Names(
        loaded,
        aws_url=_SQS,
        base_url=lambda api: f"https://{api}.execute-api.us-east-1.amazonaws.com",
        elsewhere=lambda name, attribute: f"{name}.{attribute}" if attribute else name,
    )
    resources = {
        logical_id: Resource(
            logical_id,
            str(item["Type"]),
            _resolved(names, item.get("Properties") or {}),
            _metadata(loaded, logical_id, item),
        )
        for logical_id, item in loaded.resources.items()
    }
    named = {
        _name(names, logical_id): logical_id
        for logical_id, item in resources.items()
        if item.kind in {"AWS::Lambda::Function", "AWS::SQS::Queue"}
    }
    return Subject(
        path,
        resources,
        named,
        text=loaded.source.content,
        given_names=dict(given_names(loaded)),
        stack_name=read_samconfig(path).stack_name,
    )


def _name(names: Names, logical_id: str) -> str:
    try:
        return names.name(logical_id)
    except TemplateError:
        return logical_id


def function_specs(subject: Subject) -> Iterator[FunctionSpec]:
    """Yield the functions whose code is on this machine."""
    root = subject.path.resolve().parent
    by_id = {logical_id: name for name, logical_id in subject.names.items()}
    for item in subject.of_kind("AWS::Lambda::Function"):
        properties = item.properties
        code = as_mapping(properties.get("Code"))
        handler = properties.get("Handler")
        if code.get("S3Bucket") != LOCAL_BUCKET:
            continue
        code_dir = root / str(code["S3Key"])
        if not isinstance(handler, str) or not code_dir.is_dir():
            continue
        variables = as_mapping(as_mapping(properties.get("Environment")).get("Variables"))
        yield FunctionSpec(
            name=by_id[item.id],
            logical_id=item.id,
            handler=handler,
            code_dir=code_dir,
            runtime=str(properties.get("Runtime", "")),
            timeout_s=item.number("Timeout", 3) or 3,
            environment={
                name: str(value) for name, value in variables.items() if value is not UNKNOWN
            },
        )


def _metadata(loaded: template.Template, logical_id: str, item: Mapping[str, Any]) -> Any:
    """Return its ``Metadata``, with that of the resource from which SAM made it."""
    written = loaded.source.content["Resources"]
    owner = max((name for name in written if logical_id.startswith(name)), key=len, default="")
    own = item.get("Metadata") or {}
    raw = written.get(owner) or {}
    return {**(raw.get("Metadata") or {}), **own}


def _resolved(names: Names, value: Any) -> Any:
    """Return the value with its functions resolved, or ``UNKNOWN`` where that is not possible."""
    try:
        whole = names.resolve(value)
    except (TemplateError, KeyError, TypeError, IndexError, ValueError):
        if isinstance(value, dict) and not (
            len(value) == 1 and (next(iter(value)).startswith("Fn::") or "Ref" in value)
        ):
            return {key: _resolved(names, item) for key, item in value.items()}
        if isinstance(value, list):
            return [_resolved(names, item) for item in value]
        return UNKNOWN
    return _without_markers(whole)


def _without_markers(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_markers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_markers(item) for item in value]
    return UNKNOWN if isinstance(value, str) and _MARKER in value else value
