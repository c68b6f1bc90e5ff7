"""The application in a process of its own, asked about its tasks: ``application_child.py HANDLER``.

Reads a request a line on stdin, writes an answer a line on stdout, both JSON. What the application
itself prints goes to stderr. Runs in the environment of the function whose handler is named, so
that a task published here goes the way that all others go.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
import os
import sys
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from celery import Celery


class NoCeleryError(Exception):
    """The handler's module has no Celery application."""


class Published(logging.Handler):
    """Hears of each publish what the runtime tells of it."""

    def __init__(self) -> None:
        super().__init__()
        self.last: dict[str, Any] = {}

    def emit(self, record: logging.LogRecord) -> None:
        told = getattr(record, "twolane", {})
        if told.get("event") == "task.published":
            self.last = told


def load(handler: str) -> Celery:
    """The Celery application that a handler's module has, in whatever variable or handler."""
    from celery import Celery

    module = importlib.import_module(handler.rpartition(".")[0].replace("/", "."))
    for value in vars(module).values():
        for candidate in (value, getattr(value, "app", None)):
            if isinstance(candidate, Celery):
                candidate.finalize()
                candidate.loader.import_default_modules()
                return candidate
    raise NoCeleryError(f"{handler}: its module has no Celery application")


def described(app: Celery) -> list[dict[str, Any]]:
    """Every task of the application but Celery's own."""
    return [
        {
            "name": name,
            "doc": (inspect.getdoc(task.run) or "").strip(),
            "parameters": list(parameters(task)),
            "options": {
                "maxRetries": task.max_retries,
                "queue": getattr(task, "queue", None) or default_queue(app),
                "ignoreResult": bool(task.ignore_result), "acksLate": bool(task.acks_late),
            },
        }
        for name, task in sorted(app.tasks.items())
        if not name.startswith("celery.")
    ]  # fmt: skip


def default_queue(app: Celery) -> str:
    return str(app.conf.task_default_queue)


def parameters(task: Any) -> Iterator[dict[str, Any]]:
    """Of the task's signature; Celery gives a bound task its ``self``."""
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
            "annotation": ""
            if parameter.annotation is parameter.empty
            else _annotation(parameter.annotation),
        }


def _annotation(annotation: Any) -> str:
    return annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)


def _json(value: Any) -> Any:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return repr(value)
    return value


def publish(app: Celery, published: Published, asked: dict[str, Any]) -> dict[str, Any]:
    """Send a task as ``.apply_async`` does; one that is not registered, by its name."""
    published.last = {}
    given = ("countdown", "task_id", "queue", "headers")
    options = {name: asked[name] for name in given if asked.get(name) is not None}
    args, kwargs = asked.get("args") or [], asked.get("kwargs") or {}
    task = app.tasks.get(asked["name"])
    if task is not None:
        result = task.apply_async(tuple(args), kwargs, **options)
    else:
        result = app.send_task(asked["name"], tuple(args), kwargs, **options)
    return {
        "taskId": result.id,
        "messageId": published.last.get("messageId"),
        "queue": published.last.get("queue"),
        "delaySeconds": published.last.get("delaySeconds", 0),
    }


def answer(app: Celery, published: Published, asked: dict[str, Any]) -> dict[str, Any]:
    """What a request is answered with; an error is an answer, too."""
    try:
        if asked["do"] == "tasks":
            return {"tasks": described(app)}
        return publish(app, published, asked)
    except Exception as error:  # noqa: BLE001 - the application's own, shown to whoever asked
        return {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}


def main(handler: str) -> None:
    """Serve until stdin ends."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    published = Published()
    logger = logging.getLogger("twolane.publish")
    logger.addHandler(published)
    logger.setLevel(logging.INFO)
    try:
        app = load(handler)
    except Exception as error:  # noqa: BLE001 - told to the parent, which shows it
        problem = {"error": f"{type(error).__name__}: {error}", "trace": traceback.format_exc()}
        out.write(json.dumps(problem) + "\n")
        return
    out.write(json.dumps({"ready": True}) + "\n")
    out.flush()
    for line in sys.stdin:
        out.write(json.dumps(answer(app, published, json.loads(line)), default=repr) + "\n")
        out.flush()


if __name__ == "__main__":
    main(sys.argv[1])
