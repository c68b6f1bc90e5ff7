"""What a stack is made from."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from twolane_local.errors import TemplateError
from twolane_local.model import FunctionSpec, Stack
from twolane_local.testing import TestingError
from twolane_local.testing import project as early
from twolane_local.testing.project import (
    Project,
    api_url,
    of_handlers,
    of_template,
    queue_url,
    with_handlers,
)
from twolane_local.testing.stores import URL

if TYPE_CHECKING:
    from pathlib import Path


TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  RedisUrl: {Type: String, Default: ""}
  Name: {Type: String, Default: one}
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: a.handler
      CodeUri: src/
      Runtime: python3.13
      Environment: {Variables: {STORE: !Ref RedisUrl, QUEUE: !Ref Queue, NAME: !Ref Name}}
      Events: {All: {Type: HttpApi}}
  Queue: {Type: AWS::SQS::Queue}
"""


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "src").mkdir()
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    return tmp_path / "template.yaml"


def test_a_template_gets_the_embedded_store(template: Path) -> None:
    project = of_template(template, {})
    variables = project.variables
    assert (variables["STORE"], variables["NAME"]) == (URL, "one")
    assert variables["QUEUE"] == queue_url("local-Queue")
    assert project.folders == (template.parent / "src",)
    assert project.stack.routes[0].api_id == "serverlesshttpapi"


def test_a_given_store_stays(template: Path) -> None:
    project = of_template(template, {"RedisUrl": "redis://elsewhere", "Name": "two"})
    assert project.variables["STORE"] == "redis://elsewhere"
    assert project.variables["NAME"] == "two"


def test_a_template_is_read_once_until_it_changes(template: Path) -> None:
    first = of_template(template, {})
    assert of_template(template, {}) is first
    template.write_text(TEMPLATE.replace("Default: one", "Default: new"))
    os.utime(template, ns=(1, 1))
    assert of_template(template, {}).variables["NAME"] == "new"


def test_a_missing_template_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(TestingError, match="twolane_template"):
        of_template(tmp_path / "template.yaml", {})


def test_an_unknown_parameter_is_refused(template: Path) -> None:
    with pytest.raises(TemplateError, match="no parameter 'Nope'"):
        of_template(template, {"Nope": "1"})


def test_a_function_sees_what_lambda_sets(template: Path) -> None:
    project = of_template(template, {})
    environ = project.environment(project.stack.functions[0])
    assert environ["AWS_LAMBDA_FUNCTION_NAME"] == "Api"
    assert environ["AWS_ACCESS_KEY_ID"] == "local"
    assert not environ.keys() & {"AWS_ENDPOINT_URL", "PATH", "PYTHONPATH"}


def test_bare_handlers() -> None:
    project = of_handlers(api="app.api.handler", worker=print, beat="app.beat.handler", queue="q")
    stack = project.stack
    assert [function.handler for function in stack.functions] == [
        "app.api.handler", "worker.handler", "app.beat.handler",
    ]  # fmt: skip
    assert project.handlers == {"Worker": print}
    assert [queue.name for queue in stack.queues] == ["q-dead", "q"]
    assert [mapping.queue_arn.rpartition(":")[2] for mapping in stack.mappings] == ["q"]
    assert [schedule.expression for schedule in stack.schedules] == ["cron(* * * * ? *)"]
    assert project.variables["TASK_QUEUE_URL"] == queue_url("q")


def test_handlers_in_place_of_a_template_s(template: Path) -> None:
    project = with_handlers(of_template(template, {}), {"Api": print})
    assert (project.handlers, project.folders) == ({"Api": print}, ())
    with pytest.raises(TestingError, match="no function 'Nobody'"):
        with_handlers(project, {"Nobody": print})


def test_addresses_are_as_on_aws() -> None:
    assert api_url("abc") == "https://abc.execute-api.us-east-1.amazonaws.com"
    assert queue_url("q") == "https://sqs.us-east-1.amazonaws.com/123456789012/q"


# The environment before collection.


def test_it_sets_variables_credentials_and_path(
    tmp_path: Path, own_environ: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(early, "prepared", [])
    spec = FunctionSpec("Api", "Api", "a.handler", tmp_path, environment={"SHOP": "open"})
    project = Project(Stack("local", (spec,)))
    early.prepare(project)
    assert (os.environ["SHOP"], os.environ["AWS_ACCESS_KEY_ID"]) == ("open", "local")
    assert sys.path[0] == str(tmp_path)
    assert early.prepared == [early.key_of(project)]
    # Lambda's own variables are those of an invocation.
    assert "AWS_LAMBDA_FUNCTION_NAME" not in os.environ
