"""Tasks by views and by hand, on three queues; retries; a transaction; a task of beat."""

from __future__ import annotations

from typing import Any


def exercise(app: Any) -> None:
    # The page with its form and a CSRF token, from a template.
    page = app.client.get("/form/")
    assert page.status_code == 200
    assert "csrfmiddlewaretoken" in page.text
    # It calls a service that cannot be reached: the task fails, and the view says so.
    sent = app.client.post(
        "/form/",
        data={"username": "ada", "email": "ada@example.com",
              "csrfmiddlewaretoken": page.cookies["csrftoken"]},
    )  # fmt: skip
    assert sent.status_code == 200, sent.text
    app.counted("polls.tasks.sample_task", failed=1)
    status = app.client.get("/task_status/", params={"task_id": sent.json()["task_id"]})
    assert status.json()["state"] == "FAILURE"
    # The task starts when the transaction is over, and finds the user.
    assert app.client.get("/transaction_celery/").text == "test"
    app.counted("polls.tasks.task_send_welcome_email", succeeded=1)
    app.logged("send email to lennon@thebeatles.com")
    # Three retries, five seconds apart.
    assert app.client.post("/webhook_test_async/").text == "pong"
    app.counted("polls.tasks.task_process_notification", retried=3, failed=1)
    # Their decorator: a transaction that is rolled back, and back-off with jitter.
    app.send("polls.tasks.task_transaction_test")
    app.counted("polls.tasks.task_transaction_test", retried=3, failed=1)
    # A router that reads the queue from the task's name.
    for name in ("default:dynamic_example_one", "low_priority:dynamic_example_two",
                 "high_priority:dynamic_example_three"):  # fmt: skip
        app.send(name)
        app.counted(name, succeeded=1)
    # Beat.
    app.schedule("task-clear-session")
    app.counted("task_clear_session", succeeded=1, more=True)
    assert "task-clear-session" in app.tick()
    assert app.dead() == 0
    assert not app.wrong(), app.wrong()
