"""A task that writes 199 rows, one that fails; both results in django-celery-results' tables."""

from __future__ import annotations

from typing import Any

SETUP = "import django; django.setup(); from apps.client.models import Client; "
RESULTS = f"{SETUP}from django_celery_results.models import TaskResult; "


def exercise(app: Any) -> None:
    assert app.client.get("/healthcheck/").text == "ok"
    assert "Django" in app.client.get("/admin/login/").text
    made = app.python(f"{SETUP}print(Client.objects.create(username='ada', full_name='Ada').id)")
    done = app.send("apps.client.tasks.collect_post_by_client", int(made))
    app.counted("apps.client.tasks.collect_post_by_client", succeeded=1)
    app.logged("Request: ada")
    assert (
        app.python(f"{SETUP}from apps.post.models import Post; print(Post.objects.count())")
        == "199"
    )
    failed = app.send("apps.client.tasks.collect_post_by_client", 0)
    app.counted("apps.client.tasks.collect_post_by_client", failed=1)
    for task, status in ((done, "SUCCESS"), (failed, "FAILURE")):
        found = app.python(f"{RESULTS}print(TaskResult.objects.get(task_id='{task}').status)")
        assert found == status
    assert app.dead() == 0
    assert not app.wrong(), app.wrong()
