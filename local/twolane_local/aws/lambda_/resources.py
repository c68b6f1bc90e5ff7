"""Functions, versions and aliases as the calls of the Lambda API name them.

From the properties of a function to what runs is here, too.

https://docs.aws.amazon.com/lambda/latest/api/API_GetFunction.html#API_GetFunction_RequestSyntax

CloudFormation and the Lambda API write the same properties:
https://docs.aws.amazon.com/lambda/latest/api/API_CreateFunction.html
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-resource-lambda-function.html
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from twolane_local.aws.rest_json import Call, Members, RefusedError
from twolane_local.model import ACCOUNT, LATEST, REGION, FunctionSpec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from twolane_local.aws.changes import Changes, Document
    from twolane_local.model import LayerSpec


_NAME = re.compile(
    r"(?:arn:aws[a-z-]*:lambda:)?(?:(?P<region>[a-z]{2}(?:-[a-z]+)+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?(?P<name>[A-Za-z0-9_-]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[A-Za-z0-9_-]+))?"
)
#: https://docs.aws.amazon.com/lambda/latest/dg/configuration-tags.html
TAGS_LIMIT = 50


@dataclass(frozen=True, slots=True)
class Target:
    """A function, and the version or alias that a call names; ``""`` if it names none."""

    name: str
    qualifier: str = ""

    @property
    def arn(self) -> str:
        return function_arn(self.key)

    @property
    def key(self) -> str:
        return f"{self.name}:{self.qualifier}" if self.qualifier else self.name


def function_arn(key: str) -> str:
    """The ARN of ``name`` or ``name:qualifier``."""
    return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{key}"


def invalid(message: str, *, untyped: bool = False) -> RefusedError:
    """``untyped`` for the errors that AWS sends without their ``Type``."""
    more = {"Type": None} if untyped else None
    return RefusedError(400, "InvalidParameterValueException", message, more=more)


def not_found(message: str) -> RefusedError:
    return RefusedError(404, "ResourceNotFoundException", message)


def conflict(message: str) -> RefusedError:
    return RefusedError(409, "ResourceConflictException", message)


def stale(what: str) -> RefusedError:
    return RefusedError(
        412, "PreconditionFailedException",
        f"The Revision Id provided does not match the latest Revision Id. Call the {what} API to "
        "retrieve the latest Revision Id",
    )  # fmt: skip


def target_of_call(call: Call) -> Target:
    """The function that a call names, with its ``Qualifier``."""
    given = str(call.params["FunctionName"])
    match = _NAME.fullmatch(given)
    if match is None:
        raise invalid(f"Invalid function name: {given}")
    region = match["region"] or REGION
    if region not in {REGION, call.request.region}:
        raise not_found(f"Functions from '{region}' are not reachable in this region ('{REGION}')")
    named, given_apart = match["qualifier"] or "", str(call.params.get("Qualifier") or "")
    if named and given_apart and named != given_apart:
        raise invalid(
            "The derived qualifier from the function name does not match the specified qualifier."
        )
    return Target(match["name"], named or given_apart)


def check_tenancy(properties: Mapping[str, Any], feature: str) -> None:
    """As ``Functions.check_tenancy``. The text is the one of SAM's translator."""
    if properties.get("TenancyConfig"):
        raise invalid(
            f"{feature} is not supported for functions enabled with tenancy configuration."
        )


class Functions:
    """Looks up functions, versions and aliases."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def latest(self, name: str) -> Document:
        """The function; raises the API's error if there is none."""
        found = self._changes.get("function", name)
        if found is None:
            raise not_found(f"Function not found: {function_arn(name)}")
        return found

    def version(self, target: Target) -> tuple[str, Document]:
        """The version that a target leads to, by its number or ``$LATEST``."""
        found = self._changes.get("function", target.name)
        if found is None:
            raise not_found(f"Function not found: {target.arn}")
        if target.qualifier in ("", LATEST):
            return LATEST, found
        number = target.qualifier
        if (alias := self._changes.get("alias", target.key)) is not None:
            number = alias["FunctionVersion"]
            if number == LATEST:
                return LATEST, found
        document = self._changes.get("version", f"{target.name}:{number}")
        if document is None:
            raise not_found(f"Function not found: {target.arn}")
        return number, document if "Properties" in document else {**found, **document}

    def revision(self, key: str, document: Document) -> str:
        """The revision of a function, version or alias, which changes with each change to it."""
        bumped = self._changes.get("revision", key)
        if bumped is not None:
            return str(bumped["Id"])
        if "RevisionId" not in document:  # the template's
            text = json.dumps([key, document], sort_keys=True, default=str)
            return str(uuid.uuid5(uuid.NAMESPACE_URL, text))
        return str(document["RevisionId"])

    def bump(self, key: str) -> None:
        """Change the revision of a function, version or alias."""
        self._changes.put("revision", key, {"Id": str(uuid.uuid4())})

    def exists(self, target: Target) -> bool:
        """True if there is the function, and the version or alias if one is named."""
        try:
            self.version(target)
        except RefusedError:
            return False
        return True

    def check_tenancy(self, name: str, feature: str) -> None:
        """Refuse a feature that a function with isolated tenants cannot have.

        https://docs.aws.amazon.com/lambda/latest/dg/tenant-isolation.html
        """
        check_tenancy((self._changes.get("function", name) or {}).get("Properties") or {}, feature)

    def of(self, kind: str, name: str) -> dict[str, Document]:
        """The resources of a kind that belong to a function, by qualifier."""
        return {
            key.partition(":")[2]: document
            for key, document in self._changes.all(kind).items()
            if key.partition(":")[0] == name
        }


def picked(given: Members, names: Iterable[str]) -> Members:
    """The members with these names that are there."""
    return {name: given[name] for name in names if name in given}


def page(field: str, found: list[Any], params: Members, *, most: int = 50) -> Members:
    """A page of a list; the marker is the index at which the next page begins."""
    marker = str(params.get("Marker") or "0")
    start = int(marker) if marker.isdigit() else 0
    size = min(int(params.get("MaxItems") or most), most)
    shown: Members = {field: found[start : start + size]}
    if start + size < len(found):
        shown["NextMarker"] = str(start + size)
    return shown


def iso(at: float) -> str:
    """A time as functions show it: https://www.w3.org/TR/NOTE-datetime"""
    return (
        datetime.fromtimestamp(at, UTC)
        .isoformat(timespec="milliseconds")
        .replace("+00:00", "+0000")
    )


def why_unrunnable(properties: Mapping[str, Any]) -> str:
    """The reason why this machine runs no function of these properties, empty if it does."""
    if properties.get("PackageType") == "Image":
        return "it is a container image, which is not run"
    runtime = str(properties.get("Runtime", ""))
    if not runtime.startswith(("python", "provided")):
        return f"runtime {runtime or 'missing'!r} is neither Python nor OS-only"
    return ""


def specification(
    name: str,
    properties: Mapping[str, Any],
    code_dir: Path,
    layers: Iterable[LayerSpec] = (),
    *,
    logical_id: str = "",
) -> FunctionSpec:
    """The function of these properties, without what other resources say about it."""
    found = list(layers)
    reserved = properties.get("ReservedConcurrentExecutions")
    variables = (properties.get("Environment") or {}).get("Variables") or {}
    # https://docs.aws.amazon.com/lambda/latest/api/API_LoggingConfig.html
    logging = properties.get("LoggingConfig") or {}
    return FunctionSpec(
        name=name,
        logical_id=logical_id or name,
        handler=str(properties.get("Handler", "bootstrap")),
        code_dir=code_dir,
        runtime=str(properties.get("Runtime", "")),
        timeout_s=float(properties.get("Timeout", 3)),
        memory_mb=int(properties.get("MemorySize", 128)),
        environment=dict(variables),
        layer_dirs=tuple(each.folder for each in found if each.folder),
        layer_sources=tuple(each.sources for each in found if each.sources),
        archives=tuple(each.archive for each in found if each.archive),
        reserved_concurrency=None if reserved is None else int(reserved),
        log_format=str(logging.get("LogFormat") or "Text"),
        application_log_level=str(logging.get("ApplicationLogLevel") or ""),
        system_log_level=str(logging.get("SystemLogLevel") or ""),
        log_group=str(logging.get("LogGroup") or ""),
        recursive_loop=str(properties.get("RecursiveLoop", "Terminate")),
        tenant_isolation=bool(properties.get("TenancyConfig")),
        dead_letter_arn=(properties.get("DeadLetterConfig") or {}).get("TargetArn"),
        properties=properties,
    )
