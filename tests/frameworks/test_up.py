"""`twolane up` on a Django project, with its ASGI and with its WSGI application."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ..e2e.conftest import until, up  # noqa: TID252
from .conftest import ROOT, Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..e2e.conftest import Service  # noqa: TID252


@pytest.fixture(params=["asgi", "wsgi"])
def service(
    made: Project, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[tuple[Service, Project]]:
    project = Project(tmp_path / "project", tmp_path / "db.sqlite3")
    shutil.copytree(made.folder, project.folder)
    shutil.copy(made.database, project.database)
    template = project.folder / "template.yaml"
    text = template.read_text().replace("API_MODULE", f"api_{request.param}")
    template.write_text(text.replace("DATABASE_FILE", str(project.database)))
    with up(tmp_path, cwd=project.folder, PYTHONPATH=str(ROOT / "handlers")) as (started, _):
        yield started, project


@pytest.mark.slow
def test_a_project_is_served_its_tasks_run_and_its_schedule_is_sent(
    service: tuple[Service, Project],
) -> None:
    started, project = service

    def call(method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(
            method, f"{started.url}{path}", timeout=60, trust_env=False, **options
        )  # fmt: skip

    project.script(
        """
        import django; django.setup()
        from django_celery_beat.models import IntervalSchedule, PeriodicTask
        every = IntervalSchedule.objects.create(every=20, period="seconds")
        PeriodicTask.objects.create(name="count", task="orders.tasks.count", interval=every)
        """
    )
    created = call("POST", "/orders/", content="two of them")
    assert created.status_code == 202, created.text + started.log_text()
    assert created.json() == {"id": 1, "body": "two of them"}
    assert call("POST", "/orders/broken/").status_code == 500
    until(lambda: call("GET", "/orders/1/").json()["paid"] or None, "paid", seconds=100)
    said = project.script(
        """
        import django; django.setup()
        from django_celery_results.models import TaskResult
        say(rows=list(TaskResult.objects.values_list("task_name", "status", "task_id")))
        """
    ).said
    pay = [row for row in said["rows"] if row[0] == "orders.tasks.pay"]
    assert [row[1] for row in pay] == ["SUCCESS"], "the broken transaction published nothing"
    assert call("GET", f"/results/{pay[0][2]}/").json() == {"state": "SUCCESS", "result": 1}

    beat = started.client("lambda").invoke(
        FunctionName=_named(started, "Beat"), Payload=json.dumps({"detail": "{}"})
    )
    assert "FunctionError" not in beat, beat["Payload"].read()

    def counted() -> bool | None:
        rows = project.script(
            """
            import django; django.setup()
            from django_celery_results.models import TaskResult
            say(rows=list(TaskResult.objects.values_list("periodic_task_name", "status")))
            """
        ).said["rows"]
        return ["count", "SUCCESS"] in rows or None

    until(counted, "periodic task", seconds=60)
    log = started.log_text()
    assert "Exception in 'lifespan' protocol" not in log
    assert "pool_cls" not in log
    assert log.count("RuntimeError: the transaction is rolled back") == 1


def _named(service: Service, part: str) -> str:
    functions = service.client("lambda").list_functions()["Functions"]
    return str(next(f["FunctionName"] for f in functions if part in f["FunctionName"]))
