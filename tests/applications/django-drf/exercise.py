"""Mail after a sign-up, two queues, progress, automatic retries, a schedule in the database."""

from __future__ import annotations

from typing import Any


def exercise(app: Any) -> None:
    assert app.client.get("/health/").json()["status"] == "healthy"
    made = app.client.post("/users/", json={"email": "ada@example.com", "password": "lovelace"})
    assert made.status_code == 201, made.text
    app.counted("users.tasks.send_email_task", succeeded=2)
    app.logged("Subject: Welcome Email")
    app.send("core.tasks.add", 40, 2)
    app.counted("core.tasks.add", succeeded=1)
    urgent = app.send("core.tasks.process_urgent_data", "now")
    app.counted("core.tasks.process_urgent_data", succeeded=1)
    result = app.python(f"from app.celery import app; print(app.AsyncResult('{urgent}').get(5))")
    assert result == "NOW"
    app.send("core.tasks.long_running_task", ["a", "b", "c"])
    app.counted("core.tasks.long_running_task", succeeded=1)
    # Each attempt fails three times out of ten; of many, some are tried again.
    for number in range(12):
        app.send("core.tasks.unreliable_task", str(number))
    app.counted("core.tasks.unreliable_task", retried=1, succeeded=10, more=True)
    # A schedule as Django's admin writes it.
    app.python(
        "import django; django.setup(); "
        "from django_celery_beat.models import IntervalSchedule, PeriodicTask; "
        "every, _ = IntervalSchedule.objects.get_or_create(every=30, period='seconds'); "
        "PeriodicTask.objects.create(name='debug', task='app.celery.debug_task', interval=every)"
    )
    app.schedule("debug")
    app.counted("app.celery.debug_task", succeeded=1, more=True)
    assert app.dead() == 0
    assert not app.wrong(), app.wrong()
