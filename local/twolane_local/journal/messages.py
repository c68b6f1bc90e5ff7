"""The Celery task in the body of an SQS message, to read, to edit and to create.

The body is parsed by the code of ``twolane.worker``, as JSON only, so nothing here can be made to
unpickle. A body that is not a task is described instead of raised: a dead-letter queue is full of
them.
"""

from __future__ import annotations

import base64
import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane.errors import MalformedMessageError
from twolane.publish.claimcheck import read_pointer
from twolane_local.errors import LocalError
from twolane_local.model.states import camel_case

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twolane.worker.message import Envelope


_JSON = "application/json"
#: Celery's limit for the representation of arguments (``AMQP.argsrepr_maxsize``).
_REPR_MAX = 1024


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A task as it is on a queue.

    ``args`` and ``kwargs`` are ``None`` if they are ``hidden``: the publisher set its own
    ``argsrepr`` or ``kwargsrepr``, Celery's way to keep arguments out of sight, and only those are
    shown:
    https://docs.celeryq.dev/en/stable/userguide/tasks.html#hiding-sensitive-information-in-arguments
    ``problem`` says why the message, or its arguments, cannot be read. ``pointer`` is the bucket
    and key of a claim check, whose body is not fetched.
    """

    id: str | None = None
    name: str | None = None
    args: tuple[Any, ...] | None = None
    kwargs: Mapping[str, Any] | None = None
    args_repr: str | None = None
    kwargs_repr: str | None = None
    hidden: bool = False
    retries: int = 0
    eta: str | None = None
    expires: str | None = None
    root_id: str | None = None
    parent_id: str | None = None
    group_id: str | None = None
    origin: str | None = None
    pointer: tuple[str, str] | None = None
    problem: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON values under camelCase names, without the absent ones."""
        found = {
            **camel_case(self),
            "args": None if self.args is None else list(self.args),
            "kwargs": None if self.kwargs is None else dict(self.kwargs),
            "hidden": self.hidden or None,
            "retries": self.retries or None,
            "pointer": "s3://{}/{}".format(*self.pointer) if self.pointer else None,
        }
        return {name: value for name, value in found.items() if value is not None}

    def call(self) -> str:
        """Return ``app.tasks.send('a@example.com', times=2)``, without hidden arguments."""
        if self.name is None:
            return self.problem or "not a task"
        if self.args is None or self.kwargs is None:
            shown = [text for text in (self.args_repr, self.kwargs_repr) if text] or ["…"]
            return f"{self.name} {' '.join(shown)}"
        try:
            words = [repr(value) for value in self.args]
            words += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        except (RecursionError, ValueError):  # nested too deep, or a number with too many digits
            return f"{self.name} …"
        return f"{self.name}({', '.join(words)})"


def decode(body: str) -> TaskMessage:
    """Return the task in an SQS body. Never raises: ``problem`` says why it cannot be read."""
    from twolane.worker.message import open_envelope

    pointer = read_pointer(body)
    if pointer is not None:
        return TaskMessage(pointer=pointer, problem="its body is in S3 (a claim check)")
    try:
        envelope = open_envelope(body)
    except MalformedMessageError as error:
        return TaskMessage(problem=f"not a Celery message: {error}")
    try:
        args, kwargs, fields = _arguments(envelope)
        return _task(envelope, {**fields, **envelope.headers}, args=args, kwargs=kwargs)
    except (MalformedMessageError, RecursionError) as error:
        return _task(envelope, envelope.headers, problem=str(error))


def arguments_of(body: str) -> tuple[list[Any], dict[str, Any]]:
    """Return a task's arguments, hidden or not. Raises ``MalformedMessageError``."""
    from twolane.worker.message import open_envelope

    args, kwargs, _ = _arguments(open_envelope(body))
    return args, kwargs


def with_arguments(
    body: str, *, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
) -> str:
    """Return the message with other arguments; id, headers and encodings stay. Raises
    ``LocalError`` if it is not a task, a claim check (edit the object in S3), or signed: that would
    no longer hold.
    """
    from kombu.utils.json import dumps

    from twolane.worker.message import open_envelope

    if read_pointer(body) is not None:
        raise LocalError("the message is a claim check: redrive it unchanged, or send a new one")
    try:
        envelope = open_envelope(body)
        before_args, before_kwargs, _ = _arguments(envelope)
        content = _content(envelope)
    except (MalformedMessageError, RecursionError) as error:
        raise LocalError(f"its arguments cannot be edited: {error}") from error
    new_args = list(before_args if args is None else args)
    new_kwargs = dict(before_kwargs if kwargs is None else kwargs)
    whole_is_base64 = not body.lstrip().startswith("{")
    payload: dict[str, Any] = json.loads(base64.b64decode(body) if whole_is_base64 else body)
    # In protocol 2 the content is a list of args, kwargs and the canvas, in protocol 1 an object.
    text = dumps(
        {**content, "args": new_args, "kwargs": new_kwargs}
        if isinstance(content, dict)
        else [new_args, new_kwargs, *content[2:]]
    )
    (payload.get("headers") or {}).pop("compression", None)
    payload["body"] = (
        _base64(text) if payload["properties"].get("body_encoding") == "base64" else text
    )
    if "argsrepr" in envelope.headers and not _is_hidden(envelope, before_args, before_kwargs):
        payload["headers"] |= _reprs(new_args, new_kwargs)
    return _base64(json.dumps(payload)) if whole_is_base64 else json.dumps(payload)


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _task(
    envelope: Envelope,
    headers: Mapping[str, Any],
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    problem: str | None = None,
) -> TaskMessage:
    retries = headers.get("retries")
    hidden = args is not None and kwargs is not None and _is_hidden(envelope, args, kwargs)
    readable = args is not None and not hidden
    return TaskMessage(
        id=_text(headers.get("id")) or _text(envelope.properties.get("correlation_id")),
        name=_text(headers.get("task")),
        args=tuple(args) if args is not None and readable else None,
        kwargs=kwargs if readable else None,
        args_repr=None if readable else _text(headers.get("argsrepr")),
        kwargs_repr=None if readable else _text(headers.get("kwargsrepr")),
        hidden=hidden,
        retries=retries if isinstance(retries, int) else 0,
        eta=_text(headers.get("eta")),
        expires=_text(headers.get("expires")),
        root_id=_text(headers.get("root_id")),
        parent_id=_text(headers.get("parent_id")),
        group_id=_text(headers.get("group")),
        origin=_text(headers.get("origin")),
        problem=problem,
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _arguments(envelope: Envelope) -> tuple[list[Any], dict[str, Any], Mapping[str, Any]]:
    """Return args, kwargs and, in protocol 1, the fields that are headers in protocol 2."""
    content = _content(envelope)
    fields: Mapping[str, Any] = {}
    if isinstance(content, dict) and "task" in content:
        args, kwargs, fields = content.get("args"), content.get("kwargs"), content
    elif isinstance(content, list) and len(content) == 3:
        args, kwargs = content[0], content[1]
    else:
        raise MalformedMessageError("the message's body is not that of a task")
    if not isinstance(args or [], list) or not isinstance(kwargs or {}, dict):
        raise MalformedMessageError("the task's arguments are not a list and an object")
    return list(args or []), dict(kwargs or {}), fields


def _content(envelope: Envelope) -> Any:
    """Return the message's content. Raises ``MalformedMessageError`` unless it is JSON."""
    from kombu import serialization

    from twolane.publish.claimcheck import MAX_BODY_BYTES
    from twolane.worker.inflate import inflated

    if envelope.content_type != _JSON:
        raise MalformedMessageError(
            f"the arguments are serialised as {envelope.content_type}, and only JSON is read"
        )
    body: Any = envelope.body
    encoding = envelope.content_encoding or "utf-8"
    if method := envelope.headers.get("compression"):
        body = inflated(body, method, MAX_BODY_BYTES)
    try:
        return serialization.loads(body, _JSON, encoding, accept={_JSON})
    except Exception as error:
        raise MalformedMessageError(f"the arguments cannot be read: {error}") from error


def _is_hidden(envelope: Envelope, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Return whether the publisher's representation differs from the real arguments."""
    return any(
        isinstance(published := envelope.headers.get(name), str) and not _alike(published, real)
        for name, real in _reprs(args, kwargs).items()
    )


def _reprs(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, str]:
    from celery.utils.saferepr import saferepr

    untyped: Any = saferepr
    return {
        "argsrepr": untyped(tuple(args), _REPR_MAX, maxlevels=3),
        "kwargsrepr": untyped(dict(kwargs), _REPR_MAX, maxlevels=3),
    }


def _alike(published: str, real: str) -> bool:
    """Compare as JSON does, which turns tuples into lists; a long text may be cut elsewhere."""
    left, right = _tuples_as_lists(published), _tuples_as_lists(real)
    if left == right:
        return True
    shortest = min(len(left), len(right)) - 8
    return shortest > _REPR_MAX // 2 and left[:shortest] == right[:shortest]


def _tuples_as_lists(text: str) -> str:
    return text.replace(",)", "]").replace("(", "[").replace(")", "]")


def task_message(
    name: str,
    args: Sequence[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    queue: str = "celery",
    task_id: str | None = None,
    countdown: float | None = None,
    **options: Any,
) -> tuple[str, str]:
    """Return a new task's id, and its message for SQS's ``MessageBody``.

    Celery builds the message, on its in-memory transport: the envelope on an ``sqs://`` broker is
    the same. ``queue`` is Celery's name of the queue, ``countdown`` is in seconds; ``options`` are
    those of ``Celery.send_task``. Options that the task itself declares (``expires``, ``priority``
    …) are missing: only the application knows them.
    """
    from celery import Celery
    from kombu.utils.json import dumps

    identifier = task_id or str(uuid.uuid4())
    own = f"{queue}-{identifier}"  # the whole process shares queues in memory
    app = Celery("twolane", broker="memory://", set_as_current=False)
    app.conf.update(task_serializer="json", accept_content=["json"])
    with app.connection_for_write() as connection:
        app.send_task(
            name, tuple(args), dict(kwargs or {}), task_id=identifier, countdown=countdown,
            connection=connection, queue=own, **options,
        )  # fmt: skip
        channel: Any = connection.default_channel
        message = channel._get(own)  # noqa: SLF001 - how a virtual channel takes a message
        channel._delete(own)  # noqa: SLF001
    message["properties"]["delivery_info"]["routing_key"] = queue
    return identifier, str(dumps(message))
