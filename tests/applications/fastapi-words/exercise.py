"""Uploads, compressed messages and results, a class of tasks with hooks, a token."""

from __future__ import annotations

from typing import Any


def exercise(app: Any) -> None:
    version = app.client.get("/api/")
    assert version.status_code == 200
    assert version.json()["version"]
    token = app.client.post("/api/auth", json={"login": "admin", "password": "admin"})
    assert token.json()["type"] == "bearer"
    assert app.client.post("/api/auth", json={"login": "a", "password": "b"}).status_code == 400
    text = "a few words, and some more " * 1000
    sent = app.client.post("/api/words", files={"text": ("words.txt", text.encode())})
    assert sent.status_code == 303, sent.text
    where = sent.headers["location"]
    app.counted("tasks.words", succeeded=1)
    counted = app.client.get(where)
    assert (counted.status_code, counted.json()) == (200, {"count": 6000})
    app.logged("words.on_success")
    # Forgotten with its result; theirs and Celery's.
    assert app.client.delete(where).status_code == 200
    assert app.client.get(where).status_code == 404
    app.send("tasks.dummy")
    app.counted("tasks.dummy", succeeded=1)
    app.send("tasks.create_test_task", 3)
    app.counted("tasks.create_test_task", succeeded=1)
    # Their class logs what failed.
    app.send("tasks.create_test_task", "three")
    app.counted("tasks.create_test_task", failed=1)
    app.logged("create_test_task.on_failure")
    assert app.dead() == 0
    assert not app.wrong(), app.wrong()
