"""Progress, a result, an inspected worker, a task that is revoked while it runs, one that fails."""

from __future__ import annotations

from typing import Any


def exercise(app: Any) -> None:
    assert app.client.get("/health").json() == {"status": "ok"}
    assert "<html" in app.client.get("/").text

    def start(name: str, **body: Any) -> str:
        sent = app.client.post(f"/tasks/{name}", json=body)
        assert sent.status_code == 201, sent.text
        return str(sent.json()["task_id"])

    def state(task: str) -> dict[str, Any]:
        return dict(app.client.get(f"/tasks/{task}").json())

    summed = start("calculation_task", numbers=[20, 22], operation="sum")
    done = app.until(lambda: (now := state(summed))["state"] == "SUCCESS" and now, "a sum")
    assert done["name"] == "calculation_task"
    assert done["date_done"]
    slow = start("sleep_task", duration=4)
    seen = app.until(lambda: (now := state(slow))["state"] == "PROGRESS" and now, "progress")
    assert 0 < seen["progress"] <= 100
    # `inspect` reaches the worker, which is at work.
    active = app.until(lambda: app.client.get("/tasks").json(), "an active task")
    assert [each["task_id"] for each in active] == [slow]
    workers = app.client.get("/workers").json()
    assert "sleep_task" in workers[0]["registered_tasks"]
    app.counted("sleep_task", succeeded=1)
    revoked = start("sleep_task", duration=20)
    app.until(lambda: state(revoked)["state"] == "PROGRESS", "progress")
    assert app.client.delete(f"/tasks/{revoked}").status_code == 204
    app.until(lambda: state(revoked)["state"] == "REVOKED", "a revoked task", seconds=10)
    assert app.client.post("/tasks/sleep_task", json={"duration": 0}).status_code == 422
    assert app.dead() == 0
    assert not app.wrong(), app.wrong()
