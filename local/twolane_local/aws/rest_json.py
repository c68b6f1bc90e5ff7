"""Services in the REST-JSON protocol, by botocore's own model of them.

The model says which call a request is, what its parameters must be, and which status its response
has. Restrictions and their texts: https://smithy.io/2.0/spec/constraint-traits.html
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from twolane_local.aws.call import AwsRequest, AwsResponse

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from botocore.model import OperationModel, ServiceModel

#: botocore's shapes, whose classes differ by type.
Shape = Any
#: The parameters of a call, or the members of its response.
Members = dict[str, Any]


class RefusedError(Exception):
    """The service refuses a call."""

    def __init__(
        self, status: int, code: str, message: str, *, more: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        #: More members of the response; ``None`` takes one away.
        self.more = more or {}
        self.status, self.code, self.message = status, code, message


@dataclass(frozen=True, slots=True)
class Call:
    """A request and what it asks for. ``params`` are named as in botocore."""

    operation: str
    params: Members
    request: AwsRequest


class RestJsonService:
    """Reads the requests of one service, and writes its responses."""

    def __init__(self, name: str, *, unchecked: Collection[tuple[str, str]] = ()) -> None:
        """``unchecked`` are parameters (call, name) with restrictions that the service does not
        check by its model.
        """
        self._name, self._unchecked = name, unchecked

    @cached_property
    def _model(self) -> ServiceModel:
        # Imported here: the model is needed for no invocation.
        import botocore.session

        return botocore.session.get_session().get_service_model(self._name)

    @cached_property
    def _routes(self) -> list[tuple[str, re.Pattern[str], dict[str, str], OperationModel]]:
        found = []
        for name in self._model.operation_names:
            operation = self._model.operation_model(name)
            path, _, query = operation.http["requestUri"].partition("?")
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(path.rstrip("/")))
            fixed = dict(parse_qsl(query, keep_blank_values=True))
            found.append((operation.http["method"], re.compile(pattern + "/?"), fixed, operation))
        # A call that a query selects comes before the one with the plain path.
        return sorted(found, key=lambda each: -len(each[2]))

    def operation(self, request: AwsRequest) -> str | None:
        """The name of the call that the request makes, if the service has one."""
        found = self._route(request.method, request.path, request.query)
        return found[0].name if found else None

    def _route(self, method: str, path: str, query: str) -> tuple[OperationModel, Members] | None:
        given = dict(parse_qsl(query, keep_blank_values=True))
        for of, pattern, fixed, operation in self._routes:
            match = pattern.fullmatch(path) if of == method else None
            if match is not None and fixed.items() <= given.items():
                return operation, {key: unquote(each) for key, each in match.groupdict().items()}
        return None

    def read(self, request: AwsRequest) -> Call:
        """The call, with parameters that the model allows; raises ``RefusedError``."""
        route = self._route(request.method, request.path, request.query)
        if route is None:
            raise RefusedError(404, "UnknownOperationException", "There is no such call.")
        operation, labels = route
        shape: Shape = operation.input_shape
        params: Members = {}
        if shape is not None:
            places = {"uri": labels, "header": request.headers, "": _body(request.body)}
            query: dict[str, list[str]] = {}
            for key, value in parse_qsl(request.query, keep_blank_values=True):
                query.setdefault(key, []).append(value)
            for name, member in shape.members.items():
                place = member.serialization.get("location", "")
                key = member.serialization.get("name", name)
                if place == "querystring":
                    found = _from_text(member, query[key]) if key in query else None
                else:
                    found = places[place].get(key.lower() if place == "header" else key)
                    if place == "uri" and found is not None:
                        found = _from_text(member, [found])
                if found is not None:
                    params[name] = found
            checked = {
                key: each
                for key, each in params.items()
                if (operation.name, key) not in self._unchecked
            }
            if problem := validation_error(shape, checked):
                raise RefusedError(400, "ValidationException", problem)
            params = {name: _bytes_of(shape.members[name], each) for name, each in params.items()}
        return Call(operation.name, params, request)

    def response(self, call: Call, members: Members, status: int | None = None) -> AwsResponse:
        """The response; members with the value ``None`` are left out."""
        status = status or self._model.operation_model(call.operation).http.get("responseCode", 200)
        headers = {
            "content-type": "application/json",
            "x-amzn-requestid": call.request.request_id,
        }
        shape = self._model.operation_model(call.operation).output_shape
        if status == 204 or shape is None:
            return AwsResponse(status, b"", headers)
        kept = {key: value for key, value in members.items() if value is not None}
        return AwsResponse(status, json.dumps(kept).encode(), headers)


_CAPITAL = frozenset({"ResourceNotFoundException", "CodeSigningConfigNotFoundException"})


def error_response(refused: RefusedError, request: AwsRequest) -> AwsResponse:
    """The response to a call that is refused."""
    # As Lambda's model spells the key of each error.
    key = "Message" if refused.code in _CAPITAL else "message"
    body: Members = {"Type": "User" if refused.status < 500 else "Service", key: refused.message}
    body = {name: each for name, each in {**body, **refused.more}.items() if each is not None}
    headers = {
        "content-type": "application/json",
        "x-amzn-errortype": refused.code,
        "x-amzn-requestid": request.request_id,
    }
    return AwsResponse(refused.status, json.dumps(body).encode(), headers)


def _body(raw: bytes) -> Members:
    if not raw:
        return {}
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise RefusedError(
            400, "InvalidRequestContentException",
            f"Could not parse request body into json: {error}",
        ) from None  # fmt: skip
    if not isinstance(body, dict):
        raise _unreadable("an object", body)
    return body


def _unreadable(wanted: str, value: Any) -> RefusedError:
    kind = type(value).__name__
    return RefusedError(
        400, "InvalidRequestContentException",
        f"Could not parse request body into json: expected {wanted}, not {kind}",
    )  # fmt: skip


def _from_text(shape: Shape, values: list[str]) -> Any:
    if shape.type_name == "list":
        return values
    text = values[-1]
    if shape.type_name in {"integer", "long"}:
        try:
            return int(text)
        except ValueError:
            raise _unreadable("a number", text) from None
    return text == "true" if shape.type_name == "boolean" else text


_KINDS: dict[str, tuple[type, ...]] = {
    "structure": (dict,), "map": (dict,), "list": (list,), "string": (str,), "boolean": (bool,),
    "integer": (int,), "long": (int,), "float": (int, float), "double": (int, float),
    "blob": (str,), "timestamp": (int, float, str),
}  # fmt: skip


def validation_error(shape: Shape, params: Members) -> str:
    """AWS's sentence on parameters that the model forbids; empty if it allows them.

    Raises ``RefusedError`` if one is of another type.
    """
    problems = list(_problems(shape, params, ""))
    if not problems:
        return ""
    count = len(problems)
    return f"{count} validation error{'s' if count > 1 else ''} detected: {'; '.join(problems)}"


def _problems(shape: Shape, value: Any, path: str) -> Iterator[str]:
    """What the model forbids in a value, as AWS writes it."""
    kinds = _KINDS.get(shape.type_name, ())
    fits = isinstance(value, kinds) and (bool in kinds or not isinstance(value, bool))
    if not fits:
        raise _unreadable(shape.type_name, value)
    if shape.type_name == "structure":
        for name in shape.required_members:
            if value.get(name) is None:
                yield _problem(None, _inner(path, name), "Member must not be null")
        for name, member in shape.members.items():
            if value.get(name) is not None:
                yield from _problems(member, value[name], _inner(path, name))
        return
    if shape.type_name == "map":
        yield from _map_problems(shape, value, path)
        return
    for why in _broken(shape, value):
        yield _problem(value, path, why)
    if shape.type_name == "list":
        yield from _list_problems(shape, value, path)


def _list_problems(shape: Shape, value: list[Any], path: str) -> Iterator[str]:
    if shape.member.type_name == "structure":
        for number, each in enumerate(value, 1):
            yield from _problems(shape.member, each, f"{path}.{number}.member")
        return
    for each in value:
        if not isinstance(each, _KINDS[shape.member.type_name]):
            raise _unreadable(shape.member.type_name, each)
    if any(list(_broken(shape.member, each)) for each in value):
        yield _problem(value, path, f"Member must satisfy constraint: [{_rules(shape.member)}]")


def _map_problems(shape: Shape, value: Members, path: str) -> Iterator[str]:
    for each in value.values():
        if not isinstance(each, _KINDS[shape.value.type_name]):
            raise _unreadable(shape.value.type_name, each)
    if any(list(_broken(shape.key, each)) for each in value):
        yield _problem(value, path, f"Map keys must satisfy constraint: [{_rules(shape.key)}]")
    if shape.value.type_name in {"float", "double"}:
        value = {key: float(each) for key, each in value.items()}
    if any(list(_broken(shape.value, each)) for each in value.values()):
        rules = _rules(shape.value)
        yield _problem(value, path, f"Map value must satisfy constraint: [{rules}]")


def _broken(shape: Shape, value: Any) -> Iterator[str]:
    """The restrictions of a plain shape that a value breaks."""
    for limit, why in _restrictions(shape):
        if not limit(value):
            yield why


def _rules(shape: Shape) -> str:
    return ", ".join([*(why for _, why in _restrictions(shape)), "Member must not be null"])


def _restrictions(shape: Shape) -> Iterator[tuple[Any, str]]:
    about = shape.metadata
    number = shape.type_name in {"integer", "long", "float", "double"}
    what = "value" if number else "length"
    size: Callable[[Any], float] = float if number else len
    if shape.type_name in {"float", "double"}:
        about = {key: float(about[key]) for key in ("min", "max") if key in about}
    if (most := about.get("max")) is not None and shape.type_name != "blob":
        yield (
            lambda value: size(value) <= most,
            f"Member must have {what} less than or equal to {most}",
        )
    if (least := about.get("min")) is not None and shape.type_name != "blob":
        yield (
            lambda value: size(value) >= least,
            f"Member must have {what} greater than or equal to {least}",
        )
    if enum := about.get("enum"):
        yield (
            lambda value: value in enum,
            f"Member must satisfy enum value set: [{', '.join(enum)}]",
        )
    if pattern := about.get("pattern"):
        yield (
            lambda value: _pattern(pattern).fullmatch(value),
            f"Member must satisfy regular expression pattern: {pattern}",
        )


@cache
def _pattern(text: str) -> re.Pattern[str]:
    """A pattern of the model, which is written for Java."""
    try:
        return re.compile(re.sub(r"\\p\{[A-Za-z]+\}", r"\\w", text))
    except re.error:
        return re.compile(r"[\s\S]*")


def _inner(path: str, name: str) -> str:
    name = name[0].lower() + name[1:]
    return f"{path}.{name}" if path else name


def _problem(value: Any, path: str, why: str) -> str:
    shown = "null" if value is None else f"'{_shown(value)}'"
    return f"Value {shown} at '{path}' failed to satisfy constraint: {why}"


def _shown(value: Any) -> str:
    """A value as Java prints it."""
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_shown(each)}" for key, each in value.items()) + "}"
    return str(value)


def _bytes_of(shape: Shape, value: Any) -> Any:
    """The value with its blobs decoded."""
    if shape.type_name == "blob" and isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise _unreadable("base64", value) from None
    if shape.type_name == "structure":
        return {
            name: _bytes_of(member, value[name])
            for name, member in shape.members.items()
            if value.get(name) is not None
        }
    return value
