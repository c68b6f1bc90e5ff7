"""``python -m twolane_local.checks.survey_probe JSON`` imports applications and prints their facts.

Nothing of them is called but factories; no broker and no result store is used.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import traceback
from typing import Any


def describe(asked: dict[str, Any]) -> dict[str, Any]:
    """Return ``{"applications", "missing", "problems"}``. Celery comes first: a web application
    imports more than a worker needs, and ``missing`` are the modules with tasks that nothing of the
    worker imports.
    """
    problems: list[str] = []
    made: list[tuple[dict[str, Any], Any]] = []
    wanted = sorted(asked["applications"], key=lambda each: (_kind(each), each["factory"]))
    missing: list[str] = []
    for number, each in enumerate(wanted):
        if each["factory"] and any(_kind(other) == _kind(each) for other, _ in made):
            continue  # there is one already
        value = _get(each, problems)
        if value is not None and all(value is not other for _, other in made):
            made.append((each, value))
            if _kind(each) == 0 and not any(map(_is_celery, wanted[number + 1 :])):
                missing = _not_imported(asked["tasks"], problems)
    found = [{**each, "facts": _celery(value) if _is_celery(each) else _web(value)}
             for each, value in made]  # fmt: skip
    return {"applications": found, "missing": missing, "problems": problems}


def _is_celery(each: dict[str, Any]) -> bool:
    return bool(each["kind"] == "Celery")


def _kind(each: dict[str, Any]) -> int:
    return 0 if _is_celery(each) else 1


def _get(each: dict[str, Any], problems: list[str]) -> Any:
    try:
        value: Any = getattr(importlib.import_module(each["module"]), each["name"])
        value = value() if each["factory"] else value
        if _is_celery(each):
            value.loader.import_default_modules()
    except Exception as error:  # noqa: BLE001 - the application's own
        problems.append(_problem(each["module"], error))
        return None
    return value


def _not_imported(modules: list[str], problems: list[str]) -> list[str]:
    found = []
    for name in modules:
        if name not in sys.modules:
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - the application's own
                problems.append(_problem(name, error))
            else:
                found.append(name)
    return found


def _problem(module: str, error: Exception) -> str:
    """Of an import: the last line of the application's own code, and the error."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if frame.filename.startswith(os.getcwd() + os.sep)]  # noqa: PTH109
    where = f" ({os.path.relpath(own[-1].filename)}:{own[-1].lineno})" if own else ""
    text = " ".join(str(error).split())
    return f"{module} does not import: {type(error).__name__}: {text:.300}{where}"


def _web(app: Any) -> dict[str, Any]:
    rules: Any = getattr(getattr(app, "url_map", None), "_rules", ())  # Flask's
    routes: Any = getattr(app, "routes", None) or rules
    return {
        "class": f"{type(app).__module__}.{type(app).__qualname__}",
        "routes": len(routes),
        "openapi_url": getattr(app, "openapi_url", None),
        "root_path": getattr(app, "root_path", ""),
    }


def _celery(app: Any) -> dict[str, Any]:
    from kombu.utils.url import maybe_sanitize_url

    app.finalize()
    conf = app.conf
    default = str(conf.task_default_queue)
    tasks = [name for name in sorted(app.tasks) if not name.startswith("celery.")]
    #: The longest that a task may run, by queue.
    queues: dict[str, float] = {default: float(conf.task_time_limit or 0)}
    for queue in conf.task_queues or ():
        queues.setdefault(str(getattr(queue, "name", queue)), 0.0)
    for name in tasks:
        task = app.tasks[name]
        options = {"queue": task.queue} if getattr(task, "queue", None) else {}
        queue = app.amqp.router.route(options, name).get("queue") or default
        limit = task.time_limit or conf.task_time_limit or task.soft_time_limit
        limit = float(limit or conf.task_soft_time_limit or 0)
        queue = str(getattr(queue, "name", queue))
        queues[queue] = max(queues.get(queue, 0.0), limit)
    for entry in (conf.beat_schedule or {}).values():
        if queue := (entry.get("options") or {}).get("queue"):
            queues.setdefault(str(queue), 0.0)
    return {
        "main": app.main or "",
        "broker": maybe_sanitize_url(str(conf.broker_write_url or conf.broker_url or "")),
        "backend": maybe_sanitize_url(str(conf.result_backend or "")),
        "default_queue": default,
        "queues": sorted(queues, key=lambda name: (name != default, name)),
        "tasks": tasks,
        "beat": {str(n): str(e.get("task")) for n, e in (conf.beat_schedule or {}).items()},
        "django_beat": "django_celery_beat" in str(conf.beat_scheduler or ""),
        "serializer": str(conf.task_serializer),
        "accept": [str(each) for each in conf.accept_content or ()],
        "time_limits": queues,
        "eager": bool(conf.task_always_eager),
    }


if __name__ == "__main__":
    sys.path.insert(0, os.getcwd())  # noqa: PTH109
    sys.stdout.write(f"\n{json.dumps(describe(json.loads(sys.argv[1])))}\n")
