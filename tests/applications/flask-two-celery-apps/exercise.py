"""Two Celery applications in one process, each with its queue and worker; the context of Flask."""

from __future__ import annotations

from typing import Any


def exercise(app: Any) -> None:
    assert app.client.get("/add").text == "Hello, world!"
    app.counted("app.celerytasks.add.my_add", succeeded=1)
    app.logged("1 + 2 = 3")
    # A setting of Flask's, which the task reads in the application's context.
    app.logged("Starbucks")
    assert app.client.get("/fac").text == "hello"
    app.counted("app.celerytasks.factorial.my_factorial", succeeded=1)
    app.logged("10! = 3628800")
    assert app.dead() == 0
    assert not app.wrong(), app.wrong()
