"""``python -m twolane_local.checks.lint.probe HANDLER …`` prints Celery applications as JSON.

The adapters are replaced by one that only stores its application, so that no lifespan starts and
no result store is used.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from celery import Celery


class _Recorder:
    def __init__(self, app: Any, *_: Any, **__: Any) -> None:
        self.app = app


def describe(handler: Any) -> dict[str, Any]:
    """Return ``{"adapter", "app", "broker", "store_limits", "tasks", "entries", "problems"}``,
    without a Celery application only ``adapter``. Of an API, the application is the one that its
    process means where none is named.
    """
    adapter = type(handler).__name__
    if not isinstance(handler, _Recorder):
        return {"adapter": adapter}
    if adapter == "ApiHandler":
        return {"adapter": adapter, **_of_an_api()}
    app: Celery = handler.app
    app.loader.import_default_modules()
    app.finalize()
    return {
        "adapter": adapter,
        "app": app.main or "",
        "broker": str(app.conf.broker_write_url or app.conf.broker_url or ""),
        "store_limits": _store_limits(app),
        "tasks": [
            _task(app, task)
            for name, task in sorted(app.tasks.items())
            if not name.startswith("celery.")
        ],
        "entries": [
            {"name": str(name), "task": str(entry["task"])}
            for name, entry in (app.conf.beat_schedule or {}).items()
            if entry.get("enabled", True)
        ],
        "problems": [*_problems(app), *_problems_of_tasks(app)],
    }


def _of_an_api() -> dict[str, Any]:
    if "celery" not in sys.modules:
        return {}
    from celery.app import app_or_default

    from twolane.publish.application import is_fallback

    app: Any = app_or_default()
    if is_fallback(app):
        return {}
    return {
        "app": app.main or "",
        "broker": str(app.conf.broker_write_url or ""),
        "store_limits": {},
        "tasks": [],
        "entries": [],
        "problems": _problems(app),
    }


def _problems(app: Celery) -> list[dict[str, str]]:
    from twolane.publish.application import problems

    return [problem._asdict() for problem in problems(app, os.environ)]


def _problems_of_tasks(app: Celery) -> Iterator[dict[str, str]]:
    """The tasks that have a serializer of their own that is refused."""
    from twolane.publish.application import refused_name

    for name, task in sorted(app.tasks.items()):
        refused = refused_name(getattr(task, "serializer", None))
        if refused and refused != refused_name(app.conf.task_serializer):
            yield {
                "kind": "serializer",
                "what": f"the task {name} has serializer={refused!r}: a worker function takes "
                "JSON, and refuses its messages",
                "fix": "leave serializer out of the task, or set it to 'json'",
            }


def _store_limits(app: Celery) -> dict[str, float]:
    """Return the timeouts for its result store and SQS that the application itself sets."""
    options = app.conf.broker_transport_options or {}
    client = options.get("client-config") or {}
    found: dict[str, Any] = {
        f"client-config's {name}": client.get(name) for name in ("connect_timeout", "read_timeout")
    }
    url = str(app.conf.result_backend or "")
    if url.startswith(("redis", "sentinel")):
        names = ("redis_socket_timeout", "redis_socket_connect_timeout")
        settings: Any = app.conf  # celery-types does not have ``value_set_for``
        found |= {name: app.conf.get(name) for name in names if settings.value_set_for(name)}
        query = dict(parse_qsl(urlsplit(url).query))
        found |= {name: query.get(name) for name in ("socket_timeout", "socket_connect_timeout")}
    return {name: float(value) for name, value in found.items() if value}


def _task(app: Celery, task: Any) -> dict[str, Any]:
    from twolane.patches.coroutines import is_coroutine_task

    route = app.amqp.router.route({"queue": task.queue} if getattr(task, "queue", None) else {},
                                  task.name)  # fmt: skip
    queue = route.get("queue") or app.conf.task_default_queue
    queue = str(getattr(queue, "name", queue))
    options = app.conf.broker_transport_options or {}
    predefined = (options.get("predefined_queues") or {}).get(queue) or {}
    code = getattr(getattr(task.run, "__func__", task.run), "__code__", None)
    return {
        "name": task.name,
        "queue": queue,
        "queue_url": predefined.get("url"),
        "hard_limit_s": task.time_limit or app.conf.task_time_limit,
        "soft_limit_s": task.soft_time_limit or app.conf.task_soft_time_limit,
        "file": code.co_filename if code else None,
        "line": code.co_firstlineno if code else 1,
        "awaits": is_coroutine_task(task),
    }


def main(names: Sequence[str]) -> None:
    """Print the descriptions of all handlers, as one list."""
    import twolane
    import twolane.beat
    import twolane.worker

    homes: dict[str, list[Any]] = {
        "WorkerHandler": [twolane, twolane.worker],
        "BeatHandler": [twolane, twolane.beat],
        "ApiHandler": [twolane],
    }
    for name, modules in homes.items():
        recorder = type(name, (_Recorder,), {})
        for module in modules:
            setattr(module, name, recorder)
    described = []
    for name in names:
        module, _, attribute = name.rpartition(".")
        handler = getattr(importlib.import_module(module.replace("/", ".")), attribute)
        described.append(describe(handler))
    sys.stdout.write(f"\n{json.dumps(described)}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
