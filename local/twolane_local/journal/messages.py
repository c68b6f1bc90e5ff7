"""From the body of an SQS message to the Celery task in it, for people to read and to edit.

Reads what ``twolane.worker`` reads, by the same code, in JSON only: nothing here can be made to
unpickle. What is no task is described, not raised: a dead-letter queue holds precisely such things.
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

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from twolane.worker.message import Envelope


_JSON = "application/json"
#: Celery's own limit for what it shows of arguments (``AMQP.argsrepr_maxsize``).
_REPR_MAX = 1024


@dataclass(frozen=True, slots=True)
class TaskMessage:
    """A task as it lies on a queue.

    ``args`` and ``kwargs`` are ``None`` where they are ``hidden``: whoever published the task gave
    an ``argsrepr`` or ``kwargsrepr`` of its own, which is how Celery lets an application keep
    arguments out of sight, and only those are shown:
    https://docs.celeryq.dev/en/stable/userguide/tasks.html#hiding-sensitive-information-in-arguments
    ``problem`` says why the message, or its arguments, cannot be read. ``pointer`` is bucket and
    key of a claim check, whose body is not fetched.
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
        """JSON values under camelCase names, absent ones left out."""
        found = {
            "id": self.id,
            "name": self.name,
            "args": None if self.args is None else list(self.args),
            "kwargs": None if self.kwargs is None else dict(self.kwargs),
            "argsRepr": self.args_repr,
            "kwargsRepr": self.kwargs_repr,
            "hidden": self.hidden or None,
            "retries": self.retries or None,
            "eta": self.eta,
            "expires": self.expires,
            "rootId": self.root_id,
            "parentId": self.parent_id,
            "groupId": self.group_id,
            "origin": self.origin,
            "pointer": "s3://{}/{}".format(*self.pointer) if self.pointer else None,
            "problem": self.problem,
        }
        return {name: value for name, value in found.items() if value is not None}

    def call(self) -> str:
        """``app.tasks.send('a@example.com', times=2)``, or as much of it as may be shown."""
        if self.name is None:
            return self.problem or "no task"
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
    """The task in an SQS body. Never raises: ``problem`` says what keeps it from being read."""
    from twolane.worker.message import open_envelope

    pointer = read_pointer(body)
    if pointer is not None:
        return TaskMessage(pointer=pointer, problem="its body is in S3 (a claim check)")
    try:
        envelope = open_envelope(body)
    except MalformedMessageError as error:
        return TaskMessage(problem=f"no Celery message: {error}")
    try:
        args, kwargs, about = _arguments(envelope)
        return _described(envelope, {**about, **envelope.headers}, args=args, kwargs=kwargs)
    except (MalformedMessageError, RecursionError) as error:
        return _described(envelope, envelope.headers, problem=str(error))


def arguments_in(body: str) -> tuple[list[Any], dict[str, Any]]:
    """A task's arguments, hidden or not. Raises ``MalformedMessageError`` where it has none."""
    from twolane.worker.message import open_envelope

    args, kwargs, _ = _arguments(open_envelope(body))
    return args, kwargs


def edited(
    body: str, *, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None
) -> str:
    """The same message with other arguments: the id, the headers and the encodings stay.

    Raises ``LocalError`` for what is no task, is a claim check (edit what it points to), or is
    signed, since the signature would no longer hold.
    """
    from twolane.worker.message import open_envelope

    if read_pointer(body) is not None:
        raise LocalError("the message is a claim check: redrive it as it is, or send it anew")
    try:
        envelope = open_envelope(body)
        before_args, before_kwargs, _ = _arguments(envelope)
        content = _content(envelope)
    except (MalformedMessageError, RecursionError) as error:
        raise LocalError(f"its arguments cannot be edited: {error}") from error
    new_args = list(before_args if args is None else args)
    new_kwargs = dict(before_kwargs if kwargs is None else kwargs)
    plain, whole_is_base64 = _plain(body)
    payload: dict[str, Any] = json.loads(plain)
    _put(payload, content, new_args, new_kwargs)
    if not _is_hidden(envelope, before_args, before_kwargs):
        payload["headers"] |= _reprs(new_args, new_kwargs) if "argsrepr" in envelope.headers else {}
    text = json.dumps(payload)
    return base64.b64encode(text.encode()).decode() if whole_is_base64 else text


def _put(payload: dict[str, Any], content: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Into the message's own body; in protocol 2 a list of args, kwargs and the canvas."""
    from kombu.utils.json import dumps

    made = (
        {**content, "args": args, "kwargs": kwargs}
        if isinstance(content, dict)
        else [args, kwargs, *content[2:]]
    )
    text = dumps(made)
    (payload.get("headers") or {}).pop("compression", None)
    encoded = payload["properties"].get("body_encoding") == "base64"
    payload["body"] = base64.b64encode(text.encode()).decode() if encoded else text


def _plain(body: str) -> tuple[str, bool]:
    stripped = body.strip()
    if stripped.startswith("{"):
        return stripped, False
    return base64.b64decode(body).decode(), True


def _described(
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
    """Args, kwargs and, in protocol 1, the fields that are headers in protocol 2."""
    content = _content(envelope)
    about: Mapping[str, Any] = {}
    if isinstance(content, dict) and "task" in content:
        args, kwargs, about = content.get("args"), content.get("kwargs"), content
    elif isinstance(content, list) and len(content) == 3:
        args, kwargs = content[0], content[1]
    else:
        raise MalformedMessageError("the message's body is not a task's")
    if not isinstance(args or [], list) or not isinstance(kwargs or {}, dict):
        raise MalformedMessageError("the task's arguments are not a list and an object")
    return list(args or []), dict(kwargs or {}), about


def _content(envelope: Envelope) -> Any:
    """What the message carries. Raises ``MalformedMessageError`` for all but JSON."""
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
    """Whether the publisher shows something else than what the arguments are."""
    shown = _reprs(args, kwargs)
    return any(
        isinstance(said := envelope.headers.get(name), str) and not _alike(said, real)
        for name, real in shown.items()
    )


def _reprs(args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, str]:
    from celery.utils.saferepr import saferepr

    shown: Any = saferepr
    return {
        "argsrepr": shown(tuple(args), _REPR_MAX, maxlevels=3),
        "kwargsrepr": shown(dict(kwargs), _REPR_MAX, maxlevels=3),
    }


def _alike(said: str, real: str) -> bool:
    """Equal, but for what JSON does to tuples, and for where a long text was cut."""
    left, right = _listed(said), _listed(real)
    if left == right:
        return True
    shortest = min(len(left), len(right)) - 8
    return shortest > _REPR_MAX // 2 and left[:shortest] == right[:shortest]


def _listed(text: str) -> str:
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
    """The task's id, and its message as SQS takes it in ``MessageBody``.

    Celery makes it, through its transport in memory: the envelope on an ``sqs://`` broker is the
    same. ``queue`` is Celery's name of the queue, ``countdown`` is in seconds; ``options`` are
    those of ``Celery.send_task``. What a task declares for itself (``expires``, ``priority`` …) is
    known to the application alone.
    """
    from celery import Celery
    from kombu.utils.json import dumps

    identifier = task_id or str(uuid.uuid4())
    own = f"{queue}-{identifier}"  # queues in memory are shared by the whole process
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
