"""The answer to a call on which moto fails: an error in the shape of the call's service.

The shapes: https://smithy.io/2.0/aws/protocols/index.html
The codes: https://docs.aws.amazon.com/awssupport/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import base64
import io
import json
import re
import traceback
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_CREDENTIAL = re.compile(r"Credential=[^/]+/\d{8}/[^/]*/(?P<service>[^/]+)/aws4_request")
_CBOR_PATH = re.compile(r"/service/[^/]+/operation/(?P<operation>[^/?]+)")
#: The services whose REST protocol is that of XML, by the name that calls are signed for.
_XML = frozenset({"s3", "s3-object-lambda", "s3express", "route53", "cloudfront"})
#: The longest text of an error, in characters.
_LONGEST = 1000
#: XML has no other control characters, and half a surrogate pair is no character.
_NO_TEXT = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Fault(NamedTuple):
    """An error of a service."""

    status: int
    code: str
    message: str


class Call(NamedTuple):
    """A call, as far as its answer depends on it; ``operation`` may be a method and a path."""

    service: str
    operation: str
    protocol: str


def call_of(
    method: str, path: str, query: str, headers: Mapping[str, str], body: bytes = b""
) -> Call:
    """Read a request, with the names of its headers in lower case."""
    authorization = headers.get("authorization", "")
    parameters = parse_qs(query, keep_blank_values=True)
    if "X-Amz-Credential" in parameters:
        authorization = f"Credential={parameters['X-Amz-Credential'][0]}"
    signed = _CREDENTIAL.search(authorization)
    service = signed["service"].lower() if signed else ""
    kind = headers.get("content-type", "").lower()
    target = headers.get("x-amz-target", "")
    if "smithy-protocol" in headers or kind.startswith("application/cbor"):
        found = _CBOR_PATH.search(path)
        return Call(service, found["operation"] if found else f"{method} {path}", "cbor")
    if target or kind.startswith("application/x-amz-json"):
        return Call(service, target.rpartition(".")[2] or f"{method} {path}", "json")
    form = kind.startswith("application/x-www-form-urlencoded")
    actions = parse_qs(body[:65536].decode("latin-1")) if form else parameters
    if service not in _XML and (form or "Action" in actions):
        action = (actions.get("Action") or parameters.get("Action") or [f"{method} {path}"])[0]
        return Call(service, action, "ec2" if service == "ec2" else "query")
    name = service or "s3"  # as moto takes what is not signed
    return Call(name, f"{method} {path}", "rest-xml" if name in _XML else "rest-json")


def answer(call: Call, fault: Fault) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body of an error."""
    request_id = str(uuid.uuid4())
    message = _NO_TEXT.sub("?", fault.message)[:_LONGEST]
    kind, body = _shaped(call, fault._replace(message=message), request_id)
    headers = [
        ("content-type", kind),
        ("content-length", str(len(body))),
        ("x-amzn-requestid", request_id),
    ]
    if call.protocol == "cbor":
        headers.append(("smithy-protocol", "rpc-v2-cbor"))
    elif call.protocol in ("json", "rest-json"):
        headers.append(("x-amzn-errortype", fault.code))
    return fault.status, headers, body


def _shaped(call: Call, fault: Fault, request_id: str) -> tuple[str, bytes]:
    error = {"__type": fault.code, "message": fault.message}
    match call.protocol:
        case "cbor":
            return "application/cbor", _cbor(error)
        case "json":
            return "application/x-amz-json-1.1", json.dumps(error).encode()
        case "rest-json":
            return "application/json", json.dumps({"message": fault.message}).encode()
    said = f"<Code>{fault.code}</Code><Message>{escape(fault.message)}</Message>"
    if call.protocol == "ec2":
        text = (
            f"<Response><Errors><Error>{said}</Error></Errors>"
            f"<RequestID>{request_id}</RequestID></Response>"
        )
    elif call.service.startswith("s3"):
        text = f"<Error>{said}<RequestId>{request_id}</RequestId></Error>"
    else:
        sender = "Receiver" if fault.status >= 500 else "Sender"
        text = (
            f"<ErrorResponse><Error><Type>{sender}</Type>{said}</Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    return "text/xml", f'<?xml version="1.0" encoding="UTF-8"?>\n{text}'.encode()


def _cbor(values: Mapping[str, str]) -> bytes:
    """A map of fewer than 24 texts: https://www.rfc-editor.org/rfc/rfc8949#section-3"""
    parts = [bytes([0xA0 | len(values)])]
    for text in (each for pair in values.items() for each in pair):
        data = text.encode()
        parts += [b"\x7a", len(data).to_bytes(4, "big"), data]
    return b"".join(parts)


def problem(shape: Any, value: Any, where: str = "the request") -> str | None:
    """What is wrong with a value by a shape of botocore's models, or ``None``."""
    check = _CHECKS.get(shape.type_name)
    return check(shape, value, where) if check is not None else None


def _structure_problem(shape: Any, value: Any, where: str) -> str | None:
    if getattr(shape, "is_document_type", False):
        return None
    if not isinstance(value, dict):
        return f"{where} is not a structure"
    for name in shape.required_members:
        member = shape.members.get(name)
        serialised = member.serialization.get("name", name) if member is not None else name
        if value.get(name) is None and value.get(serialised) is None:
            return f"{name} of {where} is missing"
    return _first(
        problem(shape.members[name], each, f"{name} of {where}")
        for name, each in value.items()
        if name in shape.members and each is not None
    )


def _list_problem(shape: Any, value: Any, where: str) -> str | None:
    if not isinstance(value, list):
        return f"{where} is not a list"
    return _range_problem(shape, len(value), where) or _first(
        problem(shape.member, each, f"an element of {where}") for each in value
    )


def _map_problem(shape: Any, value: Any, where: str) -> str | None:
    if not isinstance(value, dict):
        return f"{where} is not a map"
    return _range_problem(shape, len(value), where) or _first(
        problem(shape.value, each, f"{name} of {where}") for name, each in value.items()
    )


def _first(problems: Iterable[str | None]) -> str | None:
    return next(filter(None, problems), None)


def _text_problem(shape: Any, value: Any, where: str) -> str | None:
    if not isinstance(value, str):
        return f"{where} is not a string"
    allowed = getattr(shape, "enum", None)
    if allowed and value not in allowed:
        return f"{where} must be one of {', '.join(allowed)}"
    pattern = shape.metadata.get("pattern")
    if pattern and len(value) < _MATCHED:
        try:
            if re.search(f"^(?:{pattern})$", value) is None:
                return f"{where} does not match {pattern}"
        except re.error:
            pass  # Java's syntax
    return _range_problem(shape, len(value), where)


def _number_problem(shape: Any, value: Any, where: str) -> str | None:
    if not isinstance(value, int) or isinstance(value, bool):
        return f"{where} is not an integer"
    return _range_problem(shape, value, where)


def _boolean_problem(_: Any, value: Any, where: str) -> str | None:
    return None if isinstance(value, bool) else f"{where} is not a boolean"


def _range_problem(shape: Any, size: int, where: str) -> str | None:
    least, most = shape.metadata.get("min"), shape.metadata.get("max")
    if least is not None and size < least:
        return f"{where} is below the minimum of {least}"
    if most is not None and size > most:
        return f"{where} is above the maximum of {most}"
    return None


#: A pattern may take exponential time on longer texts.
_MATCHED = 64
_CHECKS: dict[str, Callable[[Any, Any, str], str | None]] = {
    "structure": _structure_problem,
    "list": _list_problem,
    "map": _map_problem,
    "string": _text_problem,
    "integer": _number_problem,
    "long": _number_problem,
    "boolean": _boolean_problem,
}


#: The header in which the traceback of a fault reaches the emulator, which logs it.
TRACEBACK = "x-twolane-traceback"
#: A larger body is not read twice.
_READ = 1024 * 1024
_PAGE = re.compile(rb"\s*<(?:!doctype html|html)", re.IGNORECASE)
_ADVICE = "if your application needs it, please report it to https://github.com/getmoto/moto/issues"


class ServiceErrors:
    """A WSGI app in front of moto's: its exceptions and pages become errors of the service."""

    def __init__(self, app: Wsgi) -> None:
        self._app = app

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        body = _buffered(environ)
        started: list[Any] = []

        def start(status: str, headers: list[tuple[str, str]], _: Any = None) -> Any:
            started[:] = [status, headers]
            return lambda _: None

        extra: list[tuple[str, str]] = []
        try:
            content = list(self._app(environ, start))
            code = int(started[0][:3])
            if _lacks_shape(code, environ["REQUEST_METHOD"], content):
                fault = _of_page(code, environ, body)
            else:
                found = _of_other(code, environ, body, content)
                if found is None:
                    return _passed_on(start_response, started, content)
                fault = found
        except Exception as error:  # noqa: BLE001 (whatever moto raises; the log has it)
            fault = _of_exception(error, environ, body)
            extra = [(TRACEBACK, _encoded(error))]
        call = _call_of(environ, body)
        status, headers, text = answer(call, fault)
        start_response(f"{status} {fault.code}", [*headers, *extra])
        return [b"" if environ["REQUEST_METHOD"] == "HEAD" else text]


def _lacks_shape(status: int, method: str, content: Sequence[bytes]) -> bool:
    """Whether an answer is a page of Flask's, or an error without a word."""
    if status < 300:
        return False
    if any(content):
        return _PAGE.match(b"".join(content[:1])) is not None
    return status >= 400 and method != "HEAD"


def _passed_on(
    start_response: Callable[..., Any], started: Sequence[Any], content: list[bytes]
) -> list[bytes]:
    """The answer of moto's; an error in XML without the characters that XML does not have."""
    status, headers = started
    whole = b"".join(content)
    if int(status[:3]) >= 400 and whole.startswith(b"<"):
        text = _NO_TEXT.sub("?", whole.decode("utf-8", "replace")).encode()
        if text != whole:
            content = [text]
            headers = [pair for pair in headers if pair[0].lower() != "content-length"]
            headers.append(("Content-Length", str(len(text))))
    start_response(status, headers)
    return content


def _of_other(
    status: int, environ: Mapping[str, Any], body: bytes, content: Sequence[bytes]
) -> Fault | None:
    """An error that moto writes in JSON or text where the call's protocol has something else."""
    text = b"".join(content).decode("utf-8", "replace").strip()
    protocol = _call_of(environ, body).protocol if status >= 400 and text else "cbor"
    if protocol == "cbor" or text.startswith("<" if protocol in _IN_XML else "{"):
        return None
    code = {403: "AccessDenied", 404: "ResourceNotFoundException"}.get(
        status, _INVALID.get(protocol, "ValidationException")
    )
    try:
        error = json.loads(text)
        code, text = str(error["__type"]).rpartition("#")[2], str(error.get("message", ""))
    except (ValueError, LookupError, TypeError):
        pass
    return Fault(status, code if status < 500 else "InternalFailure", text)


#: The protocols whose errors are XML.
_IN_XML = frozenset({"query", "ec2", "rest-xml"})


def _buffered(environ: dict[str, Any]) -> bytes:
    """The body, which moto will find unread; empty if it is large."""
    length = int(environ.get("CONTENT_LENGTH") or 0)
    if not 0 < length <= _READ:
        return b""
    body: bytes = environ["wsgi.input"].read(length)
    environ["wsgi.input"] = io.BytesIO(body)
    return body


def _call_of(environ: Mapping[str, Any], body: bytes) -> Call:
    headers = {
        name[5:].replace("_", "-").lower(): str(value)
        for name, value in environ.items()
        if name.startswith("HTTP_")
    }
    headers["content-type"] = environ.get("CONTENT_TYPE", "")
    path = environ.get("PATH_INFO", "")
    return call_of(environ["REQUEST_METHOD"], path, environ.get("QUERY_STRING", ""), headers, body)


def _of_page(status: int, environ: dict[str, Any], body: bytes) -> Fault:
    """What a page of Flask's means: no such path or method, or a request that it cannot read."""
    call = _call_of(environ, body)
    if status == 413:
        return Fault(413, "RequestEntityTooLarge", "the request is too large for moto")
    if status < 400 or status in (404, 405):  # also a redirection to a path without //
        return Fault(
            404,
            "UnknownOperationException",
            f"moto has no {_shown(call)}; twolane does not play it",
        )
    if status < 500:
        return Fault(400, _INVALID.get(call.protocol, "ValidationException"), "malformed request")
    return Fault(500, "InternalFailure", f"moto failed on {_shown(call)}; {_ADVICE}")


def _shown(call: Call) -> str:
    return f"{call.operation} of {call.service or 'a service that the call does not name'}"


#: The code of a request that breaks the service's model, by protocol.
_INVALID = {
    "query": "ValidationError",
    "ec2": "InvalidParameterValue",
    "rest-xml": "InvalidRequest",
}


def _of_exception(error: Exception, environ: dict[str, Any], body: bytes) -> Fault:
    call = _call_of(environ, body)
    raised = _one_line(error)
    if isinstance(error, ModuleNotFoundError) and (part := _part_of_moto(error)):
        package = str(error.name).partition(".")[0]
        lacking = f"the package {package}, which is not installed here"
        remedy = f"install it where twolane is: pip install 'moto[{part}]'"
        return Fault(501, "NotImplemented", f"moto needs {lacking}, for {_shown(call)}; {remedy}")
    response = _response_in(error)
    if response is None:  # it failed before any service of moto's had the call
        where = traceback.extract_tb(error.__traceback__)[-1].name
        if where in _IMPORTS:
            said = f"moto does not play {_shown(call)}, nor does twolane"
            return Fault(501, "NotImplemented", said)
        return Fault(400, "UnknownOperationException", f"moto finds no {_shown(call)}: {raised}")
    if isinstance(error, NotImplementedError):
        return Fault(501, "NotImplemented", f"moto does not play {_shown(call)}: {raised}")
    wrong = None
    if response is not None:
        try:
            wrong = _invalid(response.boto3_service_name, call, environ, body)
        except Exception:  # noqa: BLE001 (moto cannot tell either; its failure is what is said)
            wrong = None
    if wrong is not None:
        code = _INVALID.get(call.protocol, "ValidationException")
        return Fault(400, code, f"{_shown(call)}: {wrong} (moto failed on it: {raised})")
    return Fault(500, "InternalFailure", f"moto failed on {_shown(call)}: {raised}; {_ADVICE}")


#: A file of one of moto's services.
_PART = re.compile(r"/moto/(\w+)/\w[\w/]*\.py$")
#: The functions of moto that import a service.
_IMPORTS = frozenset({"get_backend", "_import_backend", "import_module", "_find_and_load_unlocked"})


def _part_of_moto(error: ModuleNotFoundError) -> str | None:
    """The service whose code imports a package that moto's own extras name, if it is one."""
    if error.name is None or error.name.startswith("moto"):
        return None
    frames = traceback.extract_tb(error.__traceback__)
    found = [each for frame in frames if (each := _PART.search(Path(frame.filename).as_posix()))]
    return found[-1][1] if found else None


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _response_in(error: BaseException) -> Any:
    """The object of moto's that was answering the call, from the frames of its exception."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        found = frame.f_locals.get("self")
        if hasattr(found, "boto3_service_name"):
            return found
    return None


def _invalid(service: str, call: Call, environ: dict[str, Any], body: bytes) -> str | None:
    """What is wrong with a call by the service's model, or ``None``."""
    from moto.core.parse import PROTOCOL_PARSERS
    from moto.core.request import Request, determine_request_protocol
    from moto.core.routing import get_service_router
    from werkzeug.exceptions import NotFound

    request: Any = Request({**environ, "wsgi.input": io.BytesIO(body)})
    try:
        operation, parameters = get_service_router(service).match(request)
    except NotFound:
        return "the service has no such operation"
    shape = operation.input_shape
    if shape is None:
        return None
    if call.protocol == "json":
        try:
            given = json.loads(body or b"{}")
        except (ValueError, RecursionError) as error:
            return f"the body is no JSON: {error}"
        return problem(shape, given)
    protocol = determine_request_protocol(operation.service_model, request.content_type)
    try:
        given = PROTOCOL_PARSERS[protocol](operation).parse(
            {
                "method": request.method,
                "values": request.values,
                "headers": request.headers,
                "body": body,
                "url_path": request.path,
                "url_params": parameters,
            }
        )
    except Exception as error:  # noqa: BLE001 (what cannot be parsed is malformed)
        return f"it cannot be read: {_one_line(error)}"
    return problem(shape, given)


def _encoded(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    return base64.b64encode(text[-16_000:].encode("utf-8", "replace")).decode()


def decoded(traceback_header: str) -> str:
    """The traceback in the header."""
    return base64.b64decode(traceback_header).decode()
