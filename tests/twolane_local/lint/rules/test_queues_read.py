from __future__ import annotations

from typing import TYPE_CHECKING

from ..conftest import QUEUE_URL, shop, task  # noqa: TID252

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252

DEAD_URL = QUEUE_URL.replace("Tasks", "Dead")


def test_the_workers_queue_is_read(project: Project) -> None:
    assert project.found("TL202", applications=shop()) == []


def test_a_queue_that_is_not_there(project: Project) -> None:
    astray = task(queue="reports", queue_url=None)
    (finding,) = project.found("TL202", applications=shop(task(name="fine"), astray))
    assert "shop.tasks.sweep is routed to the queue 'reports'" in finding.message
    assert (finding.path, finding.line) == (astray.file, 15)


def test_a_queue_of_the_template_that_nobody_reads(project: Project) -> None:
    assert len(project.found("TL202", applications=shop(task(queue_url=DEAD_URL)))) == 1


def test_a_queue_found_by_its_name_alone(project: Project) -> None:
    by_name = task(queue="local-Tasks", queue_url=None)
    assert project.found("TL202", applications=shop(by_name)) == []


def test_a_celery_worker_in_a_container_reads_it(project: Project) -> None:
    project.change(
        "  Dead:\n",
        "  Long:\n    Type: AWS::ECS::TaskDefinition\n    Properties:\n"
        "      ContainerDefinitions:\n        - Name: worker\n          Image: x\n"
        "          Environment: [{Name: TASK_QUEUE_URL, Value: !Ref Dead}]\n  Dead:\n",
    )
    assert project.found("TL202", applications=shop(task(queue_url=DEAD_URL))) == []


def test_another_broker_has_queues_of_its_own(project: Project) -> None:
    elsewhere = shop(task(queue_url=None), broker="redis://localhost")
    assert project.found("TL202", applications=elsewhere) == []
