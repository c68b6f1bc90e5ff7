"""A result, and a task that is retried three times; the API knows the task by its name only."""

from __future__ import annotations

from typing import Any


def exercise(app: Any) -> None:
    health = app.client.get("/health")
    assert health.status_code == 204
    assert health.headers["x-status"] == "health"

    def run(**body: int) -> str:
        sent = app.client.post("/tasks/run", json=body)
        assert sent.status_code == 200, sent.text
        return str(sent.json()["id"])

    divided = run(a=21, b=2)
    app.counted("some-complex-task", succeeded=1)
    seen = app.client.get(f"/tasks/{divided}").json()
    assert seen == {"id": divided, "status": "SUCCESS", "result": 10.5}
    hopeless = run(a=1, b=0)
    app.counted("some-complex-task", retried=3, failed=1)
    assert app.client.get(f"/tasks/{hopeless}").json()["status"] == "FAILURE"
    assert app.client.get("/tasks/unknown").json()["status"] == "PENDING"
    assert app.dead() == 0
    assert not app.wrong(), app.wrong()
