"""The probe's descriptions, made in this process instead of a child."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from celery import Celery

from twolane_local.checks.lint import probe

if TYPE_CHECKING:
    import pytest


def recorder(name: str, app: Any) -> Any:
    return type(name, (probe._Recorder,), {})(app)


def test_a_worker_is_described() -> None:
    celery = Celery("probed", broker="memory://", backend="cache+memory://")

    @celery.task(name="one")
    def one() -> None: ...

    celery.conf.beat_schedule = {"tick": {"task": "one", "schedule": 5.0}}
    described = probe.describe(recorder("WorkerHandler", celery))
    assert (described["adapter"], described["app"], described["broker"]) == (
        "WorkerHandler",
        "probed",
        "memory://",
    )
    assert [task["name"] for task in described["tasks"]] == ["one"], "Celery's own are left out"
    assert described["tasks"][0]["queue"] == "celery"
    assert described["entries"] == [{"name": "tick", "task": "one"}]


def test_an_api_has_no_celery_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # Other tests have made an application that is this process's own.
    monkeypatch.setattr("celery._state.default_app", None)
    monkeypatch.setattr("celery._state._tls", threading.local())
    monkeypatch.setattr("celery._state._tls.current_app", None, raising=False)
    assert probe.describe(recorder("ApiHandler", object())) == {"adapter": "ApiHandler"}


def test_any_other_handler_is_only_named() -> None:
    assert probe.describe(len) == {"adapter": "builtin_function_or_method"}
