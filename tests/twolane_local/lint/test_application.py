"""The Celery application of a function, by a real import."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.checks.lint import application, lint
from twolane_local.checks.lint.application import BeatEntry
from twolane_local.checks.lint.subject import function_specs, read_subject
from twolane_local.errors import HandlerImportError

from .conftest import QUEUE_URL

if TYPE_CHECKING:
    from .conftest import Project

TASKS = "code/shop/tasks.py"


def loaded(project: Project) -> dict[str, application.Application]:
    return application.load(function_specs(read_subject(project.template, {})))


def test_worker_and_beat_are_imported_with_their_environment(project: Project) -> None:
    project.write_code()
    project.change('"schedule": 60.0}}', '"schedule": 60.0}, "off": {"task": "x", '
                   '"schedule": 1.0, "enabled": False}}', file=TASKS)  # fmt: skip
    project.change(
        "celery.conf.update(",
        'celery.conf.update(\n    task_routes={"shop.tasks.route*": "mail"},'
        "\n    task_soft_time_limit=9,",
        file=TASKS,
    )
    code = project.folder / TASKS
    code.write_text(
        code.read_text() + '\n\n@celery.task(queue="own")\ndef named():\n    pass\n'
        "\n\n@celery.task\ndef routed():\n    pass\n"
    )
    found = loaded(project)
    assert {name: one.adapter for name, one in found.items()} == {
        "Worker": "WorkerHandler",
        "Beat": "BeatHandler",
    }
    worker = found["Worker"]
    assert (worker.app, worker.broker) == ("shop", "sqs://")
    assert worker.entries == (BeatEntry("sweep", "shop.tasks.sweep"),)
    named, routed, sweep = worker.tasks
    assert (named.name, named.queue, named.queue_url) == ("shop.tasks.named", "own", None)
    assert (routed.queue, routed.hard_limit_s, routed.soft_limit_s) == ("mail", None, 9)
    assert (sweep.queue, sweep.queue_url, sweep.hard_limit_s) == ("tasks", QUEUE_URL, 5)
    assert sweep.file == code
    assert sweep.line == project.line("@celery.task(time_limit=5)", file=TASKS)


def test_an_application_that_needs_its_redis_is_read_without_one(project: Project) -> None:
    # `twolane up` starts a Redis for this parameter, so that few templates have a default for it.
    project.write_code()
    project.change("Globals:", "Parameters:\n  RedisUrl: {Type: String}\nGlobals:")
    project.change(
        "TASK_QUEUE_URL: !Ref Tasks", "TASK_QUEUE_URL: !Ref Tasks\n        STORE: !Ref RedisUrl"
    )
    project.change('backend="cache+memory://"', 'backend=os.environ["STORE"]', file=TASKS)
    assert [task.name for task in loaded(project)["Worker"].tasks] == ["shop.tasks.sweep"]


def test_rules_see_it(project: Project) -> None:
    project.write_code()
    assert lint(project.template, {}) == []
    project.change("time_limit=5", "time_limit=60", file=TASKS)
    assert [one.rule.id for one in lint(project.template, {})] == ["TL203", "TL104"]
    assert lint(project.template, {}, with_application=False) == []


def test_functions_with_other_values_are_imported_apart(project: Project) -> None:
    project.write_code()
    project.change("      Handler: shop.beat.handler", "      Handler: shop.beat.handler\n"
                   "      Environment: {Variables: {TASK_QUEUE_URL: !Ref Dead}}")  # fmt: skip
    found = loaded(project)
    urls = [found[name].tasks[0].queue_url for name in ("Worker", "Beat")]
    assert urls == [QUEUE_URL, QUEUE_URL.replace("Tasks", "Dead")]


def test_a_handler_without_celery_is_left_alone(project: Project) -> None:
    project.write_code()
    for name in ("worker", "beat"):
        file = project.folder / "code" / "shop" / f"{name}.py"
        file.write_text("raise AssertionError('not imported')\n")
    assert loaded(project) == {}


def test_a_template_without_code_gets_its_rules(project: Project) -> None:
    assert loaded(project) == {}


def test_what_does_not_import_is_told_by_name(project: Project) -> None:
    project.write_code()
    project.change("import os", "import os, nowhere_to_be_found", file=TASKS)
    with pytest.raises(
        HandlerImportError, match=r"Worker, Beat: shop\.worker\.handler or .* in .*nowhere_to"
    ):
        loaded(project)
