"""Results in a database; automatic retries with back-off; a model; a schedule."""

from __future__ import annotations

from typing import Any


def exercise(app: Any) -> None:
    # It has no page of its own: this one is Django's.
    assert "The install worked successfully" in app.client.get("/").text
    added = app.send("demoapp.tasks.add", 40, 2)
    app.send("demoapp.tasks.mul", 6, 7)
    app.send("demoapp.tasks.xsum", [1, 2, 3])
    for name in ("add", "mul", "xsum"):
        app.counted(f"demoapp.tasks.{name}", succeeded=1)
    result = app.python(f"from proj.celery import app; print(app.AsyncResult('{added}').get(5))")
    assert result == "42"
    # A widget, from the database that the task writes.
    made = "import django; django.setup(); from demoapp.models import Widget; "
    app.python(f"{made}Widget.objects.create(name='old')")
    app.send("demoapp.tasks.rename_widget", 1, "new")
    app.counted("demoapp.tasks.rename_widget", succeeded=1)
    assert app.python(f"{made}print(Widget.objects.get(id=1).name)") == "new"
    # Retries after 5, 10 and 20 seconds; the last error is the result.
    app.send("demoapp.tasks.error_backoff_test")
    app.counted("demoapp.tasks.error_backoff_test", retried=3, failed=1, seconds=90)
    # A chord, whose parts end in any order.
    total = app.python(
        "import django; django.setup(); from celery import chord; "
        "from demoapp.tasks import add, xsum; "
        "print(chord([add.s(i, i) for i in range(5)])(xsum.s()).get(30))"
    )
    assert total == "20"
    app.schedule("count")
    app.counted("demoapp.tasks.count_widgets", succeeded=1, more=True)
    assert app.dead() == 0
    assert not app.wrong(), app.wrong()
