"""The input of the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.checks.lint.subject import (
    UNKNOWN,
    as_list,
    as_mapping,
    as_number,
    function_specs,
    read_subject,
)

if TYPE_CHECKING:
    from .conftest import Project


def test_sources_know_their_queue_and_function(project: Project) -> None:
    (source,) = read_subject(project.template, {}).sources()
    assert source.queue is not None
    assert source.function is not None
    assert (source.mapping.id, source.queue.id, source.function.id) == (
        "WorkerTasks",
        "Tasks",
        "Worker",
    )


def test_queues_are_found_by_arn_url_and_name(project: Project) -> None:
    subject = read_subject(project.template, {})
    for address in (
        "arn:aws:sqs:us-east-1:123456789012:local-Dead",
        "https://sqs.us-east-1.amazonaws.com/123456789012/local-Dead",
        "local-Dead",
    ):
        found = subject.queue(address)
        assert found is not None
        assert found.id == "Dead"
    assert subject.queue("theirs") is None


def test_an_aliass_function_is_found(project: Project) -> None:
    project.change("Timeout: 60", "Timeout: 60\n      AutoPublishAlias: live")
    (source,) = read_subject(project.template, {}).sources()
    assert source.function is not None
    assert source.function.id == "Worker"


def test_what_only_a_deployment_knows_is_unknown_and_the_rest_is_not(project: Project) -> None:
    project.change("Globals:", "Parameters:\n  Given: {Type: String}\nGlobals:")
    project.change("maxReceiveCount: 5", "maxReceiveCount: !ImportValue receives")
    project.change("TASK_QUEUE_URL: !Ref Tasks", "TASK_QUEUE_URL: !Ref Given")
    subject = read_subject(project.template, {})
    policy = subject.resources["Tasks"].properties["RedrivePolicy"]
    assert policy["maxReceiveCount"] is UNKNOWN
    assert policy["deadLetterTargetArn"].endswith(":local-Dead")
    variables = subject.resources["Worker"].properties["Environment"]["Variables"]
    assert variables["TASK_QUEUE_URL"] is UNKNOWN


def test_parameters_are_taken(project: Project) -> None:
    project.change("Globals:", "Parameters:\n  Seconds: {Type: Number, Default: 360}\nGlobals:")
    project.change("VisibilityTimeout: 360", "VisibilityTimeout: !Ref Seconds")
    tasks = read_subject(project.template, {"Seconds": "7"}).resources["Tasks"]
    assert tasks.number("VisibilityTimeout", 30) == 7


def test_functions_with_code_here(project: Project) -> None:
    assert list(function_specs(read_subject(project.template, {}))) == []
    project.write_code()
    worker, beat = function_specs(read_subject(project.template, {}))
    assert (worker.handler, worker.timeout_s, beat.timeout_s) == ("shop.worker.handler", 60, 3)
    assert worker.code_dir == project.folder / "code"
    assert worker.environment["TASK_QUEUE_URL"].startswith("https://sqs.us-east-1.amazonaws.com/")


def test_lists_and_mappings_of_whatever_is_there() -> None:
    assert (as_list(None), as_list(UNKNOWN), as_list("one"), as_list(["a"])) == (
        [],
        [],
        ["one"],
        ["a"],
    )
    assert (as_mapping(None), as_mapping(UNKNOWN), as_mapping({"a": 1})) == ({}, {}, {"a": 1})


@pytest.mark.parametrize(
    ("value", "seconds"), [(30, 30.0), ("30", 30.0), (UNKNOWN, None), (None, None), (True, None)]
)
def test_numbers(value: object, seconds: float | None) -> None:
    assert as_number(value) == seconds
