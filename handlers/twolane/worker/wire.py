"""From an SQS body to a kombu message: every form that kombu's SQS transport writes.

kombu writes an object ``{"body", "headers", "properties", "content-type", "content-encoding"}``.
The whole of it is base64 unless ``sqs_base64_encoding`` is off, and its ``body`` is base64 where
``properties.body_encoding`` says so; both are on by default, so a plain task is encoded twice:
https://docs.celeryq.dev/projects/kombu/en/stable/reference/kombu.transport.SQS.html
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from kombu import serialization as kombu_serialization
from kombu.message import Message
from kombu.utils import json as kombu_json

from twolane.claimcheck import MAX_BODY_BYTES
from twolane.errors import MalformedMessageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from collections.abc import Set as AbstractSet

    from twolane.worker.channel import Channel
    from twolane.worker.records import Record


_JSON = "application/json"
_serialization: Any = kombu_serialization
_read_json = json.JSONDecoder().raw_decode
_read_kombus_json = json.JSONDecoder(object_hook=kombu_json.object_hook).raw_decode


class SqsMessage(Message):
    """A kombu message that decodes plain JSON with a decoder made once.

    kombu makes one for each message. Whatever is not plain, goes wrong or was registered by the
    application (a serializer of its own under JSON's name) is kombu's to decode or to refuse.
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
    """Read an SQS body. Raises ``MalformedMessageError`` for what kombu never writes."""
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
    """The message's own body, as Celery decodes it; whatever goes wrong is raised."""
    return _message(envelope, limit, accept=accept).decode()


def to_message(
    envelope: Envelope,
    record: Record,
    channel: Channel,
    accept: AbstractSet[str],
    limit: int = MAX_BODY_BYTES,
) -> Message:
    """The kombu message that Celery's consumer takes.

    ``redelivered`` comes from SQS's receive count, which kombu's own transport never passes on.
    Raises ``MalformedMessageError`` where the body cannot be decompressed, or has more bytes than
    ``limit`` then.
    """
    info = envelope.properties.get("delivery_info")
    return _message(
        envelope,
        limit,
        delivery_tag=record.message_id,
        delivery_info={
            **(info if isinstance(info, dict) else {}),
            "redelivered": record.receive_count > 1,
        },
        # Celery's request copies the headers; the properties a task could change.
        properties=dict(envelope.properties),
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
        raise MalformedMessageError(f"the message's own body is no text: {error}") from error
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
