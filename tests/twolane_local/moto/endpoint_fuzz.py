"""Calls of AWS's services with random parameters, as boto3 writes them and as it never would.

Parameters are made from botocore's models: valid ones, valid ones with something of another kind
in a random place, and what boto3 then sends with its bytes changed.
"""

from __future__ import annotations

import http.client
import json
import random
import re
from contextlib import closing, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import boto3
import botocore
import moto
from botocore import xform_name
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.parsers import create_parser

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Far longer than the emulator waits for moto, on a machine with much else to do.
LIMIT_S = 180.0
PAGE = re.compile(rb"<(?:!doctype html|html)", re.IGNORECASE)
#: Of our own, and of those that moto has not.
OTHERS = ("sqs", "lambda", "scheduler", "translate", "qbusiness")
#: What stands in places of another kind.
ODD: list[Any] = [
    None, True, 0, -1, 7, 2.5, "", "x", "é\u2028", "a/b?c=d&e", "arn:aws:s3:::", "{", "<a>",
    b"\0\xff", [], {}, [None], [[]], {"a": "b"}, {"": {}}, ["x", 1], "2020-01-01", "../..", "%00",
    "${a}", "arn:aws:iam::123456789012:role/x", "x" * 300,
]  # fmt: skip
WORDS = ["a", "test", "my-name", "t1", "arn:aws:sns:us-east-1:123456789012:t", "i-12345678", "*",
         "vpc-1a2b3c4d", "local-Jobs", "files", "us-east-1", "1.0", "{}", '{"Statement": []}',
         "123456789012", "http://example.invalid/x", "user@example.com"]  # fmt: skip


def services() -> list[str]:
    """The services of botocore that moto has, and a few others."""
    folders = {each.name for each in Path(moto.__file__).parent.iterdir() if each.is_dir()}
    names = boto3.session.Session().get_available_services()
    return sorted({name for name in names if name.replace("-", "") in folders} | {*OTHERS})


@cache
def _source(service: str) -> str:
    folder = Path(moto.__file__).parent / service.replace("-", "")
    return "".join(each.read_text("utf-8") for each in sorted(folder.rglob("responses*.py")))


def plays(service: str, operation: str) -> bool:
    """Whether moto has the operation, by its source; what is ours it always has."""
    return service in OTHERS or f" def {xform_name(operation)}(" in _source(service)


class Parameters:
    """Random values of shapes."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def of(self, shape: Any, depth: int = 0) -> Any:
        """A valid one, or nearly."""
        chance = self._chance
        if shape.type_name == "structure":
            return self._structure(shape, depth)
        if shape.type_name in ("list", "map"):
            count = 0 if depth > 5 else chance.choice([1, 1, 1, 2, 0])
            if shape.type_name == "list":
                return [self.of(shape.member, depth + 1) for _ in range(count)]
            keys = [str(self.of(shape.key, depth + 1)) for _ in range(count)]
            return {key: self.of(shape.value, depth + 1) for key in keys}
        choices: dict[str, list[Any]] = {
            "string": list(getattr(shape, "enum", None) or WORDS),
            "float": [0.0, 1.5], "double": [0.0, 1.5], "boolean": [True, False],
            "timestamp": [1_700_000_000], "blob": [b"", b"{}", b"a=b", b"\0\xff"],
        }  # fmt: skip
        # Large numbers make moto create as many things.
        least = min(shape.metadata.get("min", 0), 1000)
        return chance.choice(choices.get(shape.type_name, [max(least, n) for n in (0, 1, 5, 100)]))

    def _structure(self, shape: Any, depth: int) -> dict[str, Any]:
        members = {
            name: self.of(member, depth + 1)
            for name, member in shape.members.items()
            if name in shape.required_members or (depth < 4 and self._chance.random() < 0.3)
        }
        if getattr(shape, "is_tagged_union", False) and len(members) > 1:
            return dict([self._chance.choice(list(members.items()))])
        return members

    def broken(self, value: Any) -> Any:
        """The same with something else in a random place."""
        chance = self._chance
        if isinstance(value, (dict, list)) and value and chance.random() < 0.85:
            key = chance.choice(list(value) if isinstance(value, dict) else range(len(value)))
            changed = dict(value) if isinstance(value, dict) else list(value)
            if isinstance(changed, dict) and chance.random() < 0.2:
                del changed[key]
            else:
                changed[key] = self.broken(value[key])  # type: ignore[index]
            return changed
        return chance.choice(ODD)


@dataclass(slots=True)
class Sent:
    """A request as it goes over the wire, and what is known of it."""

    service: str
    operation: str
    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    protocol: str
    #: Whether its bytes are boto3's: its answer is then of the service's protocol.
    intact: bool = True


def requests(seed: int, tries: int, endpoint: str) -> Iterator[Sent]:
    """Requests of random services."""
    chance = random.Random(seed)
    names = services()
    chosen = chance.sample(names, min(len(names), max(8, tries // 40)))
    made = given_up = 0
    while made < tries and given_up < tries:
        name = chance.choice(chosen)
        client = _client(name, endpoint)
        model = client.meta.service_model
        played = [each for each in model.operation_names if plays(name, each)]
        for _ in range(min(20, tries - made)):
            some = played if played and chance.random() < 0.85 else model.operation_names
            operation = model.operation_model(chance.choice(some))
            sent = _serialised(client, operation, chance)
            if sent is None:
                given_up += 1
                continue
            made += 1
            yield _mutated(sent, chance) if chance.random() < 0.25 else sent


def _client(name: str, endpoint: str) -> Any:
    make: Any = boto3.client
    return make(
        name,
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id="local",
        aws_secret_access_key="local",
        config=Config(
            parameter_validation=False, inject_host_prefix=False,
            retries={"total_max_attempts": 1}, s3={"addressing_style": "path"},
        ),
    )  # fmt: skip


def _serialised(client: Any, operation: Any, chance: random.Random) -> Sent | None:
    """What boto3 sends for the operation with random parameters; ``None`` if it cannot write it."""
    parameters = Parameters(chance)
    shape = operation.input_shape
    given = parameters.of(shape) if shape is not None else {}
    if shape is not None and chance.random() < 0.4:
        given = parameters.broken(given)
    if not isinstance(given, dict):
        given = {"X": given}
    found: list[Any] = []

    def keep(request: Any, **_: Any) -> Any:
        found.append(request)
        return AWSResponse(request.url, 200, {}, None)

    event = f"before-send.*.{operation.name}"
    client.meta.events.register_first(event, keep)
    try:
        with suppress(Exception):  # the answer is none; and some values cannot be written
            client._make_api_call(operation.name, given)
    finally:
        client.meta.events.unregister(event, keep)
    if not found:
        return None
    request = found[0]
    parts = urlsplit(request.url)
    body = request.body or b""
    if hasattr(body, "read"):
        body = body.read()
    if not isinstance(body, (bytes, bytearray)):  # boto3 takes anything for a stream
        body = str(body).encode("utf-8", "replace")
    headers = {
        name: value.decode("latin-1") if isinstance(value, bytes) else str(value)
        for name, value in request.headers.items()
    }
    return Sent(
        client.meta.service_model.service_name, operation.name, request.method,
        parts.path + (f"?{parts.query}" if parts.query else ""), headers,
        bytes(body),
        client.meta.service_model.resolved_protocol,
    )  # fmt: skip


def _mutated(sent: Sent, chance: random.Random) -> Sent:
    """The same with other bytes."""
    sent.intact = False
    data = bytearray(sent.body)
    match chance.choice(["cut", "insert", "flip", "type", "target", "path", "method", "nothing"]):
        case "cut":
            data = data[: chance.randrange(len(data) + 1)]
        case "insert":
            place = chance.randrange(len(data) + 1)
            data[place:place] = chance.choice(
                [b"\0", b"\xff\xfe", b'"', b"]]>", b"&=&", b"%zz", b"[" * 5000]
            )
        case "flip" if data:
            data[chance.randrange(len(data))] = chance.randrange(256)
        case "type":
            sent.headers["Content-Type"] = chance.choice(
                ["", "text/html", "application/json", "application/x-www-form-urlencoded",
                 "application/cbor", "application/x-amz-json-1.1", "multipart/form-data", "é"]
            )  # fmt: skip
        case "target":
            kept = sent.headers.pop("X-Amz-Target", "")
            if chance.random() < 0.5:
                sent.headers["X-Amz-Target"] = chance.choice(["", ".", kept[:-1], f"{kept}.x"])
        case "path":
            sent.target = chance.choice(
                ["/", "//", "/x", "/%00", "/%zz", "/é", "/?", "/?Action=", "/a/b/c/d?x=%ff", "/..",
                 f"{sent.target}/x", "/moto-api/nothing", "/service/x/operation/y"]
            )  # fmt: skip
        case "method":
            sent.method = chance.choice(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "POST"])
    sent.body = bytes(data)
    return sent


@dataclass(slots=True)
class Outcome:
    """What a run has found."""

    calls: int = 0
    wrong: list[str] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)


def judged(sent: Sent, endpoint: str) -> tuple[int, str | None]:
    """Send it; the status, and what is wrong with the answer."""
    what = f"{sent.service}.{sent.operation} {sent.method} {sent.target[:80]}"
    host = urlsplit(endpoint).netloc
    try:
        with closing(http.client.HTTPConnection(host, timeout=LIMIT_S)) as connection:
            connection.putrequest(
                sent.method, sent.target.encode().decode("latin-1").translate(_ESCAPED),
                skip_host=True, skip_accept_encoding=True,
            )  # fmt: skip
            for name, value in {**sent.headers, "Host": host}.items():
                if name.lower() not in ("content-length", "transfer-encoding", "expect"):
                    connection.putheader(name, value.encode())
            connection.putheader("Content-Length", str(len(sent.body)))
            connection.endheaders(sent.body)
            answer = connection.getresponse()
            body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        return 0, f"{what}: no answer: {error!r}"
    wrong = _wrong(sent, answer.status, dict(answer.getheaders()), body)
    return answer.status, wrong and f"{what}: {answer.status} {wrong}: {body[:300]!r}"


#: The library sends no other characters in a target.
_ESCAPED = {each: f"%{each:02X}" for each in (*range(0x21), *range(0x7F, 0x100))}


def _wrong(sent: Sent, status: int, headers: dict[str, str], body: bytes) -> str | None:
    if b"Traceback (most recent call last)" in body:
        return "a traceback"
    content = sent.service == "s3" and status < 400  # an object may be a page
    if PAGE.search(body[:500]) and not content and "/moto-api" not in sent.target:
        return "a page"
    if any(name.lower().startswith("x-twolane") for name in headers):
        return "a header of ours"
    if not sent.intact or status < 400 or sent.method == "HEAD":
        return None
    named = {name.lower(): value for name, value in headers.items()}
    given = {"status_code": status, "headers": named, "body": body}
    try:
        parsed = create_parser(sent.protocol).parse(given, None)
    except Exception as error:  # noqa: BLE001 (what botocore cannot read is wrong)
        return f"unreadable ({error})"
    code = str(parsed.get("Error", {}).get("Code", ""))
    return None if code and not code.isdigit() else f"no error of the {sent.protocol} protocol"


def report(outcome: Outcome) -> str:
    """What a run has found, for people."""
    rows = [json.dumps(dict(sorted(outcome.statuses.items())))]
    return "\n".join(
        [f"{outcome.calls} calls, botocore {botocore.__version__}", *rows, *outcome.wrong]
    )
