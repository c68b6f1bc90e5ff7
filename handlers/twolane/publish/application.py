"""A Celery application on SQS: the one that a process means, and settings that do not go with SQS.

**Default application.** What names no application (``AsyncResult(id)``, ``shared_task``, a
signature by name) asks Celery for the current one. Celery keeps that for each thread: the thread
that has imported the application has it, and any other one, such as those of FastAPI's plain
``def`` endpoints, gets the process's default. Without a default, Celery makes an application that
knows only ``CELERY_…`` variables: it has no result backend, and publishes to RabbitMQ on this
machine. A worker makes its application the default; ``share_current`` does so in the other
functions. https://docs.celeryq.dev/en/stable/reference/celery.html#celery.Celery.set_default

**Settings.** An application that was written for Redis or RabbitMQ imports and starts on Lambda as
well. What it publishes then goes elsewhere, and the queue stays empty without an error.
``problems`` finds such settings. The adapters log them at their start, ``twolane lint`` shows them.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit
from weakref import WeakSet

from twolane.environment.logs import emit
from twolane.patches.publishing import RPC_REFUSED, RPC_REMEDY, is_rpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from celery import Celery

logger = logging.getLogger("twolane.celery")

#: Content types that are never decoded here, with the names that kombu gives them. A sender could
#: run any code through pickle; YAML and MessagePack have values that JSON does not have, which
#: results, the console and claim checks could not show or keep.
REFUSED = {
    "application/x-python-serialize": "pickle",
    "application/x-yaml": "yaml",
    "application/x-msgpack": "msgpack",
}
_NAMES = {**REFUSED, **{name: name for name in REFUSED.values()}}

_QUEUE_URL = re.compile(r"https?://[^/]+/\d{12}/[\w.-]+")


class Problem(NamedTuple):
    """A setting that does not go with SQS. ``kind``: ``broker``, ``eager``, ``results`` or
    ``serializer``.
    """

    kind: str
    what: str
    fix: str


def share_current() -> None:
    """Make this thread's current application the default of all threads, unless the process has
    a default one already.
    """
    from celery.app import app_or_default

    state: Any = sys.modules["celery._state"]
    default = state.default_app
    current: Any = app_or_default()
    # A process that imports an application again, as tests do, means the new one.
    replaceable = default is None or is_fallback(default) or default in _shared
    if current is not default and replaceable:
        current.set_default()
        _shared.add(current)


#: The applications that were made the default here, and not by anybody else.
_shared: WeakSet[Any] = WeakSet()


def is_fallback(app: Any) -> bool:
    """True for the application that Celery makes where there is none."""
    return bool(app.main == "default" and app.fixups == [])


def problems(
    app: Celery, environ: Mapping[str, str], *, only_certain: bool = False
) -> Iterator[Problem]:
    """The problems of an application's settings. ``environ``: the variables that may name a queue.
    ``only_certain``: of the broker only where there is a queue by all appearance, or where nobody
    can read what is sent.
    """
    name = f"the Celery application {app.main or '(no name)'!r}"
    broker = _broker(app)
    if broker is not None and (not only_certain or _is_certain(broker[1], environ)):
        source, url = broker
        where = f"{url}, by {source}" if source else f"{url}, Celery's default"
        yield Problem(
            "broker",
            f"{name} publishes to {where}: no queue of SQS gets what it sends",
            f"{_how(source, app, environ)} and "
            f"broker_transport_options['predefined_queues'] to {{{app.conf.task_default_queue!r}: "
            "{'url': the queue's URL}}",
        )
    if app.conf.task_always_eager:
        yield Problem(
            "eager",
            f"{name} has task_always_eager: .delay() runs the task at once, in its caller, and no "
            "queue gets a message",
            "leave task_always_eager out; twolane's pytest plugin runs queues in tests",
        )
    if is_rpc(app):
        yield Problem("results", f"{name} has the result backend {RPC_REFUSED}", RPC_REMEDY)
    serializer = refused_name(app.conf.task_serializer)
    if serializer is not None:
        yield Problem(
            "serializer",
            f"{name} has task_serializer={serializer!r}: a worker function takes JSON, and refuses "
            "each message of this application",
            "set task_serializer to 'json', or to a serializer of your own that is registered with "
            "kombu under a content type of its own",
        )
    refused = [kind for one in app.conf.accept_content or () if (kind := refused_name(one))]
    if refused:
        yield Problem(
            "serializer",
            f"{name} has {', '.join(refused)} in accept_content: a worker function refuses such "
            "messages all the same",
            "leave it out of accept_content, and set task_serializer to 'json'",
        )


def warn(
    app: Celery, environ: Mapping[str, str], where: str, *, only_certain: bool = False
) -> None:
    """Log the problems of an application. ``where``: ``worker``, ``beat`` or ``api``."""
    for problem in problems(app, environ, only_certain=only_certain):
        emit(
            logger,
            f"{where}.{problem.kind}",
            f"! {_sentence(problem.what)}. {_sentence(problem.fix)}",
            level=logging.WARNING,
        )


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}"


def warn_of_current(environ: Mapping[str, str]) -> None:
    """Log the certain problems of the application that this thread means, if it has one. What a
    configuration raises that cannot be read is logged, and raised again where it is first used.
    """
    from celery.app import app_or_default

    app: Any = app_or_default()
    if is_fallback(app):
        return
    try:
        warn(app, environ, "api", only_certain=True)
    except Exception as error:  # noqa: BLE001 - the application may never use it
        logger.warning("! Celery's configuration cannot be read: %r", error)


def refused_name(serializer: object) -> str | None:
    """kombu's name of a serializer (its name or content type) that is refused here."""
    return _NAMES.get(str(serializer or ""))


def refusal(content_type: object) -> str | None:
    """Why a message with a content type that is not accepted is refused; ``None`` for one that
    kombu always passes on.
    """
    from kombu import serialization

    trusted = vars(serialization)["TRUSTED_CONTENT"]
    if not isinstance(content_type, str) or content_type in trusted:
        return None
    name = REFUSED.get(content_type)
    if name is not None:
        return (
            f"its body is {name} ({content_type}), which is never decoded here; its sender must "
            "set task_serializer='json' (or serializer='json' on the task)"
        )
    return (
        f"its body is {content_type!r}, and Celery's setting accept_content does not have that; "
        "add the serializer to accept_content, or set task_serializer='json' in its sender"
    )


def _broker(app: Celery) -> tuple[str, str] | None:
    """The setting that names another broker than SQS, and its URL without its password."""
    conf: Any = app.conf
    # Celery's own order; it reads these variables itself.
    said = {
        "the variable CELERY_BROKER_WRITE_URL": os.environ.get("CELERY_BROKER_WRITE_URL"),
        "broker_write_url": conf.get("broker_write_url"),
        "the variable CELERY_BROKER_URL": os.environ.get("CELERY_BROKER_URL"),
        "broker_url": conf.get("broker_url") or conf.get("broker_host"),
    }
    source, url = next(((name, url) for name, url in said.items() if url), ("", ""))
    first = str(url[0] if isinstance(url, list | tuple) else url).partition(";")[0]
    transport = first.partition(":")[0].partition("+")[0] or conf.get("broker_transport")
    if str(transport or "").lower() == "sqs":
        return None
    if not first:
        return source, "amqp://guest@localhost//"
    from kombu.utils.url import maybe_sanitize_url

    return source, str(maybe_sanitize_url(first))


def _is_certain(url: str, environ: Mapping[str, str]) -> bool:
    """True if no worker can be at the other end on Lambda, or if the function knows a queue."""
    host = urlsplit(url).hostname or "localhost"
    if host == "localhost" or host.startswith("127.") or host == "::1":
        return True
    return any(_QUEUE_URL.fullmatch(value) for value in environ.values())


def _how(source: str, app: Celery, environ: Mapping[str, str]) -> str:
    named = [name for name, value in sorted(environ.items()) if _QUEUE_URL.fullmatch(value)]
    known = f" (the variable {named[0]} has a queue's URL)" if named else ""
    prefix = getattr(app, "namespace", None)
    own = f"{prefix}_BROKER_URL" if prefix else "broker_url"
    setting = source if source.startswith("the variable") else own
    return f"set {setting} to sqs://{known}"
