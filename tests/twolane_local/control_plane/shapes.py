"""Compares the answers of a boto3 client with the shapes that AWS documents: botocore's model."""

from __future__ import annotations

import datetime
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,), "map": (dict,), "list": (list,), "string": (str,), "boolean": (bool,),
    "integer": (int,), "long": (int,), "float": (int, float), "double": (int, float),
    "timestamp": (datetime.datetime,), "blob": (bytes,),
}  # fmt: skip
#: Members whose value on this machine cannot have the documented form: a local address is shorter.
LOCAL = frozenset({"FunctionUrl"})
#: Values that AWS answers although its model does not name them:
#: https://github.com/localstack/localstack, test_lambda_api.snapshot.json in tests/aws
UNDOCUMENTED = {"LastUpdateStatusReasonCode": {"Creating"}}
#: Members that AWS leaves out although its model requires them: the function has no such config.
OPTIONAL = frozenset({
    f"GetFunctionCodeSigningConfig.{name}" for name in ("CodeSigningConfigArn", "FunctionName")
})  # fmt: skip
#: Read by the caller.
STREAMED = frozenset({"Payload", "EventStream"})


def problems(shape: Any, value: Any, path: str = "") -> Iterator[str]:
    """What the value has that the shape does not allow, or lacks."""
    if not isinstance(value, _TYPES[shape.type_name]):
        yield f"{path} is a {type(value).__name__}, not a {shape.type_name}"
        return
    if shape.type_name == "structure":
        yield from _members(shape, value, path)
    elif shape.type_name == "list":
        for number, each in enumerate(value):
            yield from problems(shape.member, each, f"{path}[{number}]")
    elif shape.type_name == "map":
        for key, each in value.items():
            yield from problems(shape.key, key, f"{path} key")
            yield from problems(shape.value, each, f"{path}.{key}")
    yield from _limits(shape, value, path)


def _members(shape: Any, value: Any, path: str) -> Iterator[str]:
    for name in shape.required_members:
        if name not in value and f"{path}.{name}" not in OPTIONAL:
            yield f"{path}.{name} is missing"
    for name, each in value.items():
        if name not in shape.members:
            yield f"{path}.{name} is not documented"
        elif name not in LOCAL | STREAMED:
            yield from problems(shape.members[name], each, f"{path}.{name}")


def _limits(shape: Any, value: Any, path: str) -> Iterator[str]:
    about = shape.metadata
    size = value if isinstance(value, int | float) else None
    if isinstance(value, str | list):
        size = len(value)
    if size is not None and not about.get("min", size) <= size <= about.get("max", size):
        yield f"{path} is {value!r}, out of its limits"
    allowed = {*about.get("enum", ()), *UNDOCUMENTED.get(shape.name, ())}
    if "enum" in about and value not in allowed:
        yield f"{path} is {value!r}, not one of {about['enum']}"
    pattern = re.sub(r"\\p\{\w+\}", r"\\w", about.get("pattern", ""))  # it is Java's
    if pattern and not re.fullmatch(pattern, value):
        yield f"{path} is {value!r}, which does not match {about['pattern']}"


class Checked:
    """Checks each answer of its clients; ``calls`` are the names of the operations."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def watch(self, client: Any) -> Any:
        client.meta.events.register("after-call", self._check)
        return client

    def _check(self, http_response: Any, parsed: dict[str, Any], model: Any, **_: Any) -> None:
        self.calls.append(model.name)
        if http_response.status_code >= 300:
            known = {shape.name for shape in model.error_shapes}
            known |= {shape.metadata.get("error", {}).get("code") for shape in model.error_shapes}
            code = parsed["Error"]["Code"]
            assert code in {*known, "ValidationException", "ValidationError"}, (model.name, parsed)
            assert parsed["Error"]["Message"], (model.name, parsed)
            return
        if "responseCode" in model.http and model.name not in {"DeleteFunction", "Invoke"}:
            assert http_response.status_code == model.http["responseCode"], model.name
        members = {name: each for name, each in parsed.items() if name != "ResponseMetadata"}
        if model.output_shape is None:
            assert members == {}, (model.name, members)
        else:
            found = list(problems(model.output_shape, members, model.name))
            assert found == [], found
