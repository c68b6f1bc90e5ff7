from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.checks.lint import lint

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252

TASKS = "code/shop/tasks.py"


def found(project: Project, backend: str, *settings: str) -> list[str]:
    """Return the rule's findings for an imported application, by function."""
    project.write_code()
    project.change("cache+memory://", backend, file=TASKS)
    project.change("celery.conf.update(", f"celery.conf.update({''.join(settings)}", file=TASKS)
    return [one.message for one in lint(project.template, {}) if one.rule.id == "TL220"]


@pytest.mark.parametrize(
    ("backend", "settings"),
    [
        ("redis://r/0", []),
        ("redis://r/0", ["redis_socket_timeout=2,"]),
        ("redis://r/0?socket_timeout=2", ["redis_socket_connect_timeout=1,"]),
        ("cache+memory://", ["redis_socket_timeout=500,"]),
    ],
)
def test_a_limit_below_the_timeout_or_none_is_well(
    project: Project, backend: str, settings: list[str]
) -> None:
    assert found(project, backend, *settings) == []


def test_a_limit_beyond_the_timeout(project: Project) -> None:
    worker, beat = sorted(found(project, "redis://r/0", "redis_socket_timeout=60,"), reverse=True)
    assert "redis_socket_timeout lets Redis take 60 s for an answer, but Worker" in worker
    assert "but Beat is killed after 3 s" in beat


def test_a_limit_in_the_address(project: Project) -> None:
    (beat,) = found(project, "rediss://r/0?socket_timeout=20&ssl_cert_reqs=required")
    assert "socket_timeout lets Redis take 20 s for an answer, but Beat" in beat


def test_celerys_own_default_set_by_the_application(project: Project) -> None:
    assert len(found(project, "redis://r/0", "redis_socket_timeout=120.0,")) == 2


def test_a_limit_for_sqs(project: Project) -> None:
    options = 'broker_transport_options["client-config"] = {"read_timeout": 20}'
    end = '"shop.tasks.sweep", "schedule": 60.0}},\n)\n'
    project.write_code()
    project.change(end, f"{end}celery.conf.{options}\n", file=TASKS)
    (beat,) = [one.message for one in lint(project.template, {}) if one.rule.id == "TL220"]
    assert "client-config's read_timeout lets SQS take 20 s for an answer, but Beat" in beat
