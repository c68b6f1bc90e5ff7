"""A record's body, read into a kombu message and into the facts of its task.

kombu's SQS transport writes an object ``{"body", "headers", "properties", "content-type",
"content-encoding"}``. The whole of it is base64 unless ``sqs_base64_encoding`` is off, and its
``body`` is base64 if ``properties.body_encoding`` says so; both are on by default, so a plain task
is encoded twice. ``open_envelope`` reads every form of it:
https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.transport.SQS.html

``read_facts`` reads the facts of the task, once, while a record is opened, and everything that runs
before Celery's own code uses these only. For any sender to the queue can put any JSON value into
any header, property or part of a body; an error in a message is then that message's problem alone.

Celery runs a message whose ``retries`` is a word, or whose parent is a number, and so does
``WorkerHandler``: such a field counts as absent. Two kinds of messages are refused: those that
Celery's ``Request`` cannot be made of, and a task without a usable id. Nothing could be stored,
leased or revoked under such an id; a stock worker, too, fails to store its result.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from typing import TYPE_CHECKING, Any, NamedTuple

from kombu import serialization as kombu_serialization
from kombu.message import Message
from kombu.utils import json as kombu_json

from twolane.errors import MalformedMessageError
from twolane.publish.claimcheck import MAX_BODY_BYTES
from twolane.publish.message import GROUP, REQUEST_ID, TRACE_ID, incoming

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from collections.abc import Set as AbstractSet

    from twolane.worker.records import Record, Run


_JSON = "application/json"
_serialization: Any = kombu_serialization
_read_json = json.JSONDecoder().raw_decode
_read_kombus_json = json.JSONDecoder(object_hook=kombu_json.object_hook).raw_decode


class SqsMessage(Message):
    """A kombu message that decodes plain JSON with a decoder made once, not for each message. One
    that is not plain or cannot be decoded, or has a serializer that the application has registered
    under JSON's name, is left to kombu.
    """

    def _decode(self) -> Any:
        decoders = _serialization.registry._decoders  # noqa: SLF001 - where kombu looks it up
        plain = self.content_type == _JSON and _JSON in (self.accept or ())
        if plain and decoders.get(_JSON) is kombu_json.loads and self.body:
            try:
                text = str(self.body, "utf-8")  # type: ignore[call-overload]
                found, end = _read_kombus_json(text)
                if end == len(text):
                    return found
            except Exception:  # noqa: BLE001, S110 - kombu meets it again, and says it in its words
                pass
        return super()._decode()


class Envelope(NamedTuple):
    """A message as it was published. ``body`` is still compressed and serialised."""

    body: bytes | str
    headers: Mapping[str, Any]
    properties: Mapping[str, Any]
    content_type: str | None
    content_encoding: str | None


def open_envelope(text: str) -> Envelope:
    """Read an SQS body. Raises ``MalformedMessageError`` for a body that kombu never writes."""
    payload = _payload(text)
    properties = payload.get("properties")
    headers = payload.get("headers") or {}
    if not isinstance(properties, dict) or not isinstance(headers, dict):
        raise MalformedMessageError(
            "the body is JSON, but not a Celery message: it has no properties or headers"
        )
    body = payload.get("body") or ""
    content_type, encoding = payload.get("content-type"), payload.get("content-encoding") or None
    if not (type(body) is type(content_type) is type(encoding) is str):
        texts = {"own body": body, "content-type": content_type, "content-encoding": encoding}
        for name, value in texts.items():
            if value is not None and not isinstance(value, str):
                raise MalformedMessageError(f"the message's {name} is not text")
    return Envelope(
        _from_base64(body) if properties.get("body_encoding") == "base64" else body,
        headers,
        properties,
        content_type,
        encoding,
    )


def decoded(envelope: Envelope, accept: AbstractSet[str], limit: int = MAX_BODY_BYTES) -> Any:
    """The message's own body, as Celery decodes it; kombu's errors are raised."""
    return _message(envelope, limit, accept=accept).decode()


def to_message(
    envelope: Envelope,
    record: Record,
    channel: Run,
    accept: AbstractSet[str],
    limit: int = MAX_BODY_BYTES,
) -> Message:
    """The kombu message that Celery's consumer takes, ``redelivered`` by SQS's receive count, which
    kombu's own transport never passes on; its group is the record's, whoever sent it. Raises
    ``MalformedMessageError`` where the body cannot be decompressed, or has more bytes than
    ``limit`` then.
    """
    info = envelope.properties.get("delivery_info")
    # Celery's request copies the headers; the properties a task could change.
    properties = dict(envelope.properties)
    if (group := record.group_id) is not None:
        properties[GROUP] = group
    return _message(
        envelope,
        limit,
        delivery_tag=record.message_id,
        delivery_info={
            **(info if isinstance(info, dict) else {}),
            "redelivered": record.receive_count > 1,
        },
        properties=properties,
        accept=accept,
        channel=channel,
    )


def _message(envelope: Envelope, limit: int, **options: Any) -> Message:
    """kombu's message; inflated here, since kombu inflates without a limit."""
    body, method = envelope.body, envelope.headers.get("compression")
    if method:
        from twolane.worker.inflate import inflated

        body = inflated(body, method, limit)
    try:
        raw = body if isinstance(body, bytes) else body.encode()
    except UnicodeEncodeError as error:
        raise MalformedMessageError(f"the message's own body is not text: {error}") from error
    message = SqsMessage(
        body=raw,  # type: ignore[arg-type]
        content_type=envelope.content_type,
        content_encoding=envelope.content_encoding,
        **options,
    )
    message.headers = envelope.headers  # type: ignore[assignment]
    return message


def _payload(text: str) -> dict[str, Any]:
    plain: str | bytes = text if text.startswith("{") else text.strip()
    if not plain.startswith("{"):  # type: ignore[arg-type]
        plain = _from_base64(text)
    try:
        payload, end = _read_json(plain) if isinstance(plain, str) else (None, -1)
        if end != len(plain):
            payload = json.loads(plain)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError(
            f"the body is neither JSON nor JSON in base64: {error}"
        ) from error
    if not isinstance(payload, dict):
        raise MalformedMessageError("the body is JSON, but not an object")
    return payload


def _from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise MalformedMessageError(
            f"the body is neither JSON nor JSON in base64: {error}"
        ) from error


#: Stamps are looked up one by one, so there is a limit to how many a message may have.
MOST_STAMPS = 1000

#: A retry counts up from zero: a number beyond this was not counted.
_MOST_RETRIES = 1_000_000_000

#: The fields that are read from the body of protocol 1; a header of the same name goes before.
_IN_BODY = ("task", "id", "parent_id", "shadow", "eta", "expires", "retries", "timelimit")

_NOTHING: Mapping[str, str] = {}
_NO_LIMITS = [None, None]
_encode = json.JSONEncoder(separators=(",", ":")).encode


class TaskFacts(NamedTuple):
    """A message's task.

    ``headers``: the message's own, with each fact in its type. ``stamps``: the header and the value
    of each. ``publish``: kombu's tag of the publish, which copies and redeliveries share.
    ``origin``: goes to ``logs.correlation`` while the task runs.
    """

    task_id: str
    name: str
    headers: Mapping[str, Any]
    retries: int = 0
    replaced: int = 0
    parent_id: str | None = None
    publish: str | None = None
    stamps: tuple[tuple[str, Any], ...] = ()
    origin: Mapping[str, str] = _NOTHING
    expires: str | None = None


def read_facts(envelope: Envelope, decode: Callable[[Envelope], Any]) -> TaskFacts:
    """The facts of a message; ``decode`` gives its body, and is called only where it counts, and
    may raise. Raises ``MalformedMessageError``, which names the field.
    """
    headers = _protocol_2(envelope, decode)
    task_id = headers.get("id")
    if not isinstance(task_id, str) or not task_id or not is_unicode(task_id):
        raise MalformedMessageError(
            f"its id is {_kind(task_id) if task_id else 'empty'}, and no text that a result could "
            "be stored under"
        )
    name = headers.get("task")
    if not isinstance(name, str):
        raise MalformedMessageError(f"its task is {_kind(name)}, and not the name of one")
    if (shadow := headers.get("shadow")) and isinstance(shadow, list | dict):
        raise MalformedMessageError("its shadow, the task's other name, is not text")
    if (limits := headers.get("timelimit")) and limits != _NO_LIMITS:
        both = isinstance(limits, list) and len(limits) == 2
        if not both or not all(map(_is_seconds, limits)):
            raise MalformedMessageError(
                f"its timelimit is {_kind(limits)}, and not two numbers of seconds"
            )
    parent, expires = headers.get("parent_id"), headers.get("expires")
    said, nested = headers.get("retries"), headers.get("replaced_task_nesting")
    retries, replaced = _count(said) if said else 0, _count(nested) if nested else 0
    parent_id = parent if parent is None or isinstance(parent, str) else _shown(parent)
    stamped = headers.get("stamped_headers") or headers.get("stamps")
    traced = REQUEST_ID in headers or TRACE_ID in headers
    if parent is not parent_id or said is not retries or nested is not replaced:
        headers = {
            **headers,
            "retries": retries,
            "replaced_task_nesting": replaced,
            "parent_id": parent_id,
        }
    return TaskFacts(
        task_id,
        name,
        headers,
        retries,
        replaced,
        parent_id,
        _publish(envelope.properties.get("delivery_tag")),
        tuple(_stamps(headers)) if stamped else (),
        incoming(headers) if traced else _NOTHING,
        expires if isinstance(expires, str) else None,
    )


def _protocol_2(envelope: Envelope, decode: Callable[[Envelope], Any]) -> Mapping[str, Any]:
    """The headers as Celery's strategy sees them: in protocol 1 the rest is in the body."""
    # https://docs.celeryq.dev/en/stable/internals/protocol.html#version-1
    headers = envelope.headers
    named = "task" in headers
    if named and "id" in headers and envelope.body[:1] not in {"{", b"{"}:
        return headers
    content = decode(envelope)
    if not named and not (isinstance(content, dict) and "task" in content):
        raise MalformedMessageError("it names no task: neither its headers nor its body do")
    if not isinstance(content, dict):
        return headers
    if "args" not in content and not named:
        return content
    found = {name: content[name] for name in _IN_BODY if name in content}
    return {**found, **headers} if "args" in content else headers


def _is_seconds(value: Any) -> bool:
    if not value:
        return True
    try:
        return isinstance(value, int | float) and not math.isnan(float(value))
    except OverflowError:
        return False


def _stamps(headers: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    names, stamps = headers.get("stamped_headers") or [], headers.get("stamps") or {}
    if not isinstance(names, list | dict | str) or any(isinstance(n, list | dict) for n in names):
        raise MalformedMessageError(
            f"its stamped_headers is {_kind(names)}, and not the names of headers"
        )
    if not isinstance(stamps, dict):
        # They are stored with the result, after the task has run.
        raise MalformedMessageError(f"its stamps is {_kind(stamps)}, and not an object")
    found = 0
    for name in names:
        for value in _many(stamps.get(name)):
            found += 1
            if found > MOST_STAMPS:
                raise MalformedMessageError(f"its stamps are more than {MOST_STAMPS:,}")
            # A revoke can name plain values only.
            if isinstance(name, str) and isinstance(value, str | int | float | None):
                yield name, value


def _many(value: Any) -> Iterable[Any]:
    if value is None:
        return ()
    return value if isinstance(value, list | tuple | set) else (value,)


def _count(value: Any) -> int:
    known = isinstance(value, int | float) and 0 < value < _MOST_RETRIES
    return (value if type(value) is int else int(value)) if known else 0


def _publish(tag: Any) -> str | None:
    if isinstance(tag, str) and 0 < len(tag) <= 255:
        return tag
    return _shown(tag) if tag else None


def _shown(value: Any) -> str:
    """Any JSON value as a text of a bounded length, the same for the same value."""
    import hashlib

    try:
        text = value if isinstance(value, str) else _encode(value)
    except RecursionError:
        return "deep"
    if len(text) <= 255:
        return text
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def is_unicode(text: str) -> bool:
    """True if it has no lone surrogate, which JSON can write and UTF-8 cannot."""
    if text.isascii():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: Any) -> str:
    """The kind of a value, in a few words, for an error."""
    if isinstance(value, str):
        return "a text with a lone surrogate" if not is_unicode(value) else "a text"
    return _KINDS.get(type(value), "null")


_KINDS = {bool: "a truth value", int: "a number", float: "a number", list: "a list",
          dict: "an object"}  # fmt: skip
