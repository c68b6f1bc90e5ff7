from __future__ import annotations

import sys

import pytest
from celery import Celery

from twolane_local.console.application_child import (
    NoCeleryError,
    PublishLog,
    answer,
    describe_tasks,
    load,
)


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))

    def module(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return f"{name}.handler"

    return module


def test_the_application_is_found_in_the_module_or_in_its_handler(module):
    direct = module("direct_app", "from celery import Celery\nname = Celery('direct')\n")
    assert load(direct).main == "direct"
    inside = module(
        "inside_app",
        "import celery\nclass Handler:\n    app = celery.Celery('inside')\nhandler = Handler()\n",
    )
    assert load(inside).main == "inside"
    with pytest.raises(NoCeleryError, match="no Celery application"):
        load(module("no_app", "handler = 1\n"))


def test_defaults_that_json_does_not_know_are_shown():
    app = Celery("app", broker="memory://", set_as_current=False)

    @app.task(name="t")
    def task(when=frozenset(), *, how: dict[str, int] | None = None): ...

    app.finalize()
    (found,) = describe_tasks(app)
    assert [each["default"] for each in found["parameters"]] == ["frozenset()", None]
    assert found["parameters"][1]["annotation"] == "dict[str, int] | None"


def test_an_unknown_task_is_sent_by_its_name():
    app = Celery("app", broker="memory://", set_as_current=False)
    told = answer(app, PublishLog(), {"do": "publish", "name": "elsewhere", "task_id": "x"})
    assert told["taskId"] == "x"
