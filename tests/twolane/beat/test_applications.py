"""Where the schedule of an application comes from, as it is under ``celery beat``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from celery import Celery

from twolane.beat.entries import read_entries

if TYPE_CHECKING:
    from pathlib import Path

    from ...conftest import RunPython  # noqa: TID252

#: In a process of its own: Celery gives shared tasks to every application of a process.
NAMED_BY_THE_APPLICATION = """
import sys, types
from celery import Celery, shared_task
from twolane import BeatHandler

app = Celery("shop", broker="memory://", backend="cache+memory://", set_as_current=False)
{named}

@app.on_after_configure.connect
def set_up(sender, **_):
    sender.add_periodic_task(60.0, sender.signature("reports.daily"), name="on-configure")

print(sorted(BeatHandler(app).entries()))
"""

MODULE = """
from celery import shared_task
from __main__ import app

@shared_task(name="reports.daily")
def daily(): ...

@app.on_after_finalize.connect
def set_up(sender, **_):
    sender.add_periodic_task(60.0, daily.s(), name="on-finalize")
"""


@pytest.mark.parametrize(
    "named",
    [
        'app.conf.include = ["reports.schedule"]',
        'app.autodiscover_tasks(["reports"], related_name="schedule")',
        'app.autodiscover_tasks(lambda: ["reports"], related_name="schedule")',
    ],
)
def test_periodic_tasks_of_modules_that_the_application_names(
    run_python: RunPython, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "__init__.py").write_text("")
    (tmp_path / "reports" / "schedule.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    printed = run_python(NAMED_BY_THE_APPLICATION.format(named=named))
    assert printed.strip() == "['on-configure', 'on-finalize']"


def test_a_schedule_that_is_set_after_the_handler_was_made(bench: Any) -> None:
    app = bench.app({})
    handler = bench.handler(app)
    app.conf.beat_schedule = {"late": {"task": "shop.report", "schedule": 60.0}}
    app.add_periodic_task(30.0, app.signature("shop.report"), name="later")
    assert sorted(handler.entries()) == ["late", "later"]


@pytest.mark.parametrize("namespace", ["CELERY", None])
def test_a_schedule_of_a_configuration_with_a_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, namespace: str | None
) -> None:
    prefix = f"{namespace}_" if namespace else ""
    settings = {
        "BROKER_URL": "memory://",
        "RESULT_BACKEND": "cache+memory://",
        "BEAT_SCHEDULE": {"nightly": {"task": "reports.daily", "schedule": 60.0}},
        "TIMEZONE": "Europe/Berlin",
    }
    lines = [
        f"{prefix + name if namespace else name.lower()} = {value!r}"
        for name, value in settings.items()
    ]
    module = f"beat_settings_{(namespace or 'plain').lower()}"
    (tmp_path / f"{module}.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    app = Celery("shop", set_as_current=False)
    app.config_from_object(module, namespace=namespace)
    entries = read_entries(app)
    assert list(entries) == ["nightly"]
    assert str(app.timezone) == "Europe/Berlin"
