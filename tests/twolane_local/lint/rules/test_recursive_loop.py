from __future__ import annotations

from typing import TYPE_CHECKING

from ..conftest import shop, task  # noqa: TID252

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252

RULE = "TL240"
ALLOW = "      RecursiveLoop: Allow\n"
SENDS = """\
            - Effect: Allow
              Action: sqs:SendMessage
              Resource: !GetAtt {queue}.Arn
"""
READS = "              Resource: arn:aws:s3:::receipts/*\n"


def send(project: Project, queue: str) -> None:
    """Let the worker send to a queue."""
    project.change(READS, READS + SENDS.format(queue=queue))


def test_a_worker_that_may_loop_is_well(project: Project) -> None:
    send(project, "Tasks")
    assert project.found(RULE, applications=shop()) == []


def test_a_worker_of_celery_that_may_not(project: Project) -> None:
    project.change(ALLOW, "")
    (finding,) = project.found(RULE, applications=shop())
    assert finding.severity.label == "warning"
    assert finding.resource == "Worker"
    assert "Celery's retries and chains come back to it by its queue" in finding.message
    assert "RecursiveLoop: Allow" in finding.fix


def test_terminate_is_what_it_is_without(project: Project) -> None:
    project.change(ALLOW, ALLOW.replace("Allow", "Terminate"))
    assert [one.resource for one in project.found(RULE, applications=shop())] == ["Worker"]


def test_a_worker_of_another_queue_s_tasks_is_no_loop(project: Project) -> None:
    project.change(ALLOW, "")
    elsewhere = task(queue="others", queue_url=None)
    assert project.found(RULE, applications=shop(elsewhere)) == []


def test_a_function_that_may_send_to_the_queue_that_it_reads(project: Project) -> None:
    project.change(ALLOW, "")
    send(project, "Tasks")
    (finding,) = project.found(RULE)
    assert finding.severity.label == "note"
    assert "what it sends comes back to it by Tasks" in finding.message


def test_one_that_sends_elsewhere_is_no_loop(project: Project) -> None:
    project.change(ALLOW, "")
    send(project, "Dead")
    assert project.found(RULE) == []


def test_a_loop_over_another_function_is_found_for_both(project: Project) -> None:
    project.change(ALLOW, "")
    send(project, "Dead")
    text = project.template.read_text()
    begin, end = text.index("  Worker:\n"), text.index("  Beat:\n")
    other = text[begin:end].replace("  Worker:", "  Other:")
    other = other.replace("!GetAtt Tasks.Arn", "!GetAtt X.Arn").replace("Dead.Arn", "Tasks.Arn")
    other = other.replace("X.Arn", "Dead.Arn")
    project.template.write_text(text[:end] + other + text[end:])
    found = {one.resource: one.message for one in project.found(RULE)}
    assert found.keys() == {"Worker", "Other"}
    assert "by Dead, Other, Tasks." in found["Worker"]
