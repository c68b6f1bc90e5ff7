"""Tasks by views and by hand, on three queues; retries; a transaction; a task of beat."""

from __future__ import annotations

from typing import Any


def exercise(app: Any) -> None:
    assert app.client.get("/").json() == {"message": "Hello World"}
    assert "<form" in app.client.get("/users/form/").text
    # It calls a service that cannot be reached: the task fails, and the view says so.
    sent = app.client.post("/users/form/", json={"username": "ada", "email": "ada@example.com"})
    assert sent.status_code == 200, sent.text
    app.counted("project.users.tasks.sample_task", failed=1)
    status = app.client.get("/users/task_status/", params={"task_id": sent.json()["task_id"]})
    assert status.json()["state"] == "FAILURE"
    assert app.client.get("/users/transaction_celery/").json() == {"message": "done"}
    app.counted("project.users.tasks.task_send_welcome_email", succeeded=1)
    app.logged("send email to")
    # Their decorator: a back-off with jitter, three times.
    assert app.client.post("/users/webhook_test_async/").json() == "pong"
    app.counted("project.users.tasks.task_process_notification", retried=3, failed=1)
    # A result by its id.
    divided = app.send("project.users.tasks.divide", 6, 3)
    app.counted("project.users.tasks.divide", succeeded=1)
    status = app.client.get("/users/task_status/", params={"task_id": divided})
    assert status.json()["state"] == "SUCCESS"
    # A router that reads the queue from the task's name.
    for name in ("default:dynamic_example_one", "low_priority:dynamic_example_two",
                 "high_priority:dynamic_example_three"):  # fmt: skip
        app.send(name)
        app.counted(name, succeeded=1)
    # Beat.
    app.schedule("task-schedule-work")
    app.counted("task_schedule_work", succeeded=1, more=True)
    assert "task-schedule-work" in app.tick()
    assert app.dead() == 0
    assert not app.wrong(), app.wrong()
