"""The application in its own process, to list and publish tasks: ``application_child.py HANDLER``.

Reads one request a line from stdin and writes one answer a line to stdout, both JSON. Output of the
application goes to stderr. The process has the environment of the handler's function, so a task
published here takes the same way as all others.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery


class NoCeleryError(Exception):
    """The handler's module has no Celery application."""


class PublishLog(logging.Handler):
    """Keeps the runtime's log record of the last publish."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, Any] = {}

    def emit(self, record: logging.LogRecord) -> None:
        fields = getattr(record, "twolane", {})
        if fields.get("event") == "task.published":
            self.last = fields


def load(handler: str) -> Celery:
    """Return the Celery application in a variable or a handler of the handler's module."""
    from celery import Celery

    module = importlib.import_module(handler.rpartition(".")[0].replace("/", "."))
    for value in vars(module).values():
        for candidate in (value, getattr(value, "app", None)):
            if isinstance(candidate, Celery):
                candidate.finalize()
                candidate.loader.import_default_modules()
                return candidate
    raise NoCeleryError(f"{handler}: its module has no Celery application")


def describe_tasks(app: Celery) -> list[dict[str, Any]]:
    """Return every task of the application except Celery's own."""
    return [
        {
            "name": name,
            "doc": (inspect.getdoc(task.run) or "").strip(),
            "parameters": list(parameters(task)),
            "options": {
                "maxRetries": task.max_retries,
                "queue": getattr(task, "queue", None) or str(app.conf.task_default_queue),
                "ignoreResult": bool(task.ignore_result), "acksLate": bool(task.acks_late),
            },
        }
        for name, task in sorted(app.tasks.items())
        if not name.startswith("celery.")
    ]  # fmt: skip


def parameters(task: Any) -> Iterator[dict[str, Any]]:
    """Yield the parameters of the task's signature, without a bound task's ``self``."""
    try:
        signature = inspect.signature(task.run)
    except (TypeError, ValueError):  # written in C
        return
    for parameter in signature.parameters.values():
        required = parameter.default is parameter.empty
        yield {
            "name": parameter.name,
            "kind": parameter.kind.name.lower(),
            "required": required and parameter.kind.name not in ("VAR_POSITIONAL", "VAR_KEYWORD"),
            "default": None if required else _json(parameter.default),
            "annotation": _annotation(parameter),
        }


def _annotation(parameter: inspect.Parameter) -> str:
    annotation = parameter.annotation
    if annotation is parameter.empty:
        return ""
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _json(value: Any) -> Any:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value


def publish(app: Celery, log: PublishLog, request: dict[str, Any]) -> dict[str, Any]:
    """Send a task with ``.apply_async``, or by its name if it is not registered."""
    log.last = {}
    names = ("countdown", "task_id", "queue", "headers")
    options = {name: request[name] for name in names if request.get(name) is not None}
    args, kwargs = request.get("args") or [], request.get("kwargs") or {}
    task = app.tasks.get(request["name"])
    if task is not None:
        result = task.apply_async(tuple(args), kwargs, **options)
    else:
        result = app.send_task(request["name"], tuple(args), kwargs, **options)
    return {
        "taskId": result.id,
        "messageId": log.last.get("messageId"),
        "queue": log.last.get("queue"),
        "delaySeconds": log.last.get("delaySeconds", 0),
    }


def answer(app: Celery, log: PublishLog, request: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a request; an error of the application is an answer too."""
    try:
        if request["do"] == "tasks":
            return {"tasks": describe_tasks(app)}
        return publish(app, log, request)
    except Exception as error:  # noqa: BLE001 - the application's own, shown in the console
        return {"error": f"{type(error).__name__}: {error}"}


def main(handler: str) -> None:
    """Serve until stdin ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    log = PublishLog()
    logger = logging.getLogger("twolane.publish")
    logger.addHandler(log)
    logger.setLevel(logging.INFO)
    try:
        app = load(handler)
    except Exception as error:  # noqa: BLE001 - sent to the parent, which shows it
        out.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return
    out.write(json.dumps({"ready": True}) + "\n")
    out.flush()
    for line in sys.stdin:
        out.write(json.dumps(answer(app, log, json.loads(line)), default=repr) + "\n")
        out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
