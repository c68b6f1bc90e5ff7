"""Their three tasks: one that returns, one that ignores its result, one that reports progress."""

from __future__ import annotations

from typing import Any


def exercise(app: Any) -> None:
    assert app.client.get("/").status_code == 200

    def result(sent: Any) -> Any:
        assert sent.status_code == 200, sent.text
        return app.client.get(f"/tasks/result/{sent.json()['result_id']}").json()

    added = app.client.post("/tasks/add", data={"a": 40, "b": 2})
    app.counted("task_app.tasks.add", succeeded=1)
    assert result(added) == {"ready": True, "successful": True, "value": 42}
    processed = app.client.post("/tasks/process", data={"total": 3})
    seen = app.until(
        lambda: (now := result(processed))["ready"] is False and now["value"], "progress"
    )
    assert seen["total"] == 3
    app.counted("task_app.tasks.process", succeeded=1)
    assert result(processed)["value"] == {"current": 3, "total": 3}
    app.client.post("/tasks/block")
    app.counted("task_app.tasks.block", succeeded=1)
    # The task itself raises where an argument is missing.
    failed = app.client.post("/tasks/add", data={"a": 1})
    app.counted("task_app.tasks.add", failed=1)
    assert app.client.get(f"/tasks/result/{failed.json()['result_id']}").status_code == 500
    assert app.dead() == 0
    assert not app.wrong(), app.wrong()
