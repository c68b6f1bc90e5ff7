"""A project on disk that breaks no rule, and what the linter says after it was changed."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from twolane_local import template
from twolane_local.checks.lint import check
from twolane_local.checks.lint.application import Application, BeatEntry, Task
from twolane_local.checks.lint.subject import read_subject
from twolane_local.journal import Event

if TYPE_CHECKING:
    from twolane_local.checks.lint.findings import Finding

#: A worker on a queue, and its beat. The rules' tests change a line or two of it.
GOOD = """\
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    Runtime: python3.13
    CodeUri: code/
    Environment:
      Variables:
        TASK_QUEUE_URL: !Ref Tasks
Resources:
  Tasks:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 360
      RedrivePolicy:
        deadLetterTargetArn: !GetAtt Dead.Arn
        maxReceiveCount: 5
  Dead:
    Type: AWS::SQS::Queue
    Properties:
      MessageRetentionPeriod: 1209600
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: shop.worker.handler
      Timeout: 60
      RecursiveLoop: Allow
      Policies:
        - Version: "2012-10-17"
          Statement:
            - Effect: Allow
              Action: s3:GetObject
              Resource: arn:aws:s3:::receipts/*
      Events:
        Tasks:
          Type: SQS
          Properties:
            Queue: !GetAtt Tasks.Arn
            BatchSize: 10
            FunctionResponseTypes: [ReportBatchItemFailures]
  Beat:
    Type: AWS::Serverless::Function
    Properties:
      Handler: shop.beat.handler
      Events:
        Tick:
          Type: ScheduleV2
          Properties:
            ScheduleExpression: cron(* * * * ? *)
            Name: !Sub ${AWS::StackName}-tick
"""
TASKS = """\
import os
from celery import Celery

celery = Celery("shop", broker="sqs://", backend="cache+memory://")
celery.conf.update(
    task_default_queue="tasks",
    broker_transport_options={
        "region": "us-east-1",
        "predefined_queues": {"tasks": {"url": os.environ["TASK_QUEUE_URL"]}},
    },
    beat_schedule={"sweep": {"task": "shop.tasks.sweep", "schedule": 60.0}},
)


@celery.task(time_limit=5)
def sweep():
    raise AssertionError("the linter runs no task")
"""
HANDLER = """\
from shop.tasks import celery
from twolane import {adapter}

handler = {adapter}(celery)
"""
QUEUE_URL = "https://sqs.us-east-1.amazonaws.com/123456789012/local-Tasks"


def task(**changes: Any) -> Task:
    """Return ``shop.tasks.sweep`` as an import would describe it."""
    facts = Task("shop.tasks.sweep", "tasks", QUEUE_URL, 5.0, None, Path("code/tasks.py"), 15)
    return replace(facts, **changes)


def shop(*tasks: Task, broker: str = "sqs://") -> dict[str, Application]:
    """Return the applications of the two functions."""
    entries = (BeatEntry("sweep", "shop.tasks.sweep"),)
    return {
        function: Application(adapter, "shop", broker, tasks or (task(),), entries)
        for function, adapter in (("Worker", "WorkerHandler"), ("Beat", "BeatHandler"))
    }


@dataclass(frozen=True)
class Project:
    """A template and its code in a folder."""

    folder: Path

    @property
    def template(self) -> Path:
        return self.folder / "template.yaml"

    def change(self, old: str, new: str, *, file: str = "template.yaml") -> None:
        path = self.folder / file
        text = path.read_text()
        assert text.count(old) == 1, f"{old!r} is {text.count(old)} times in {file}"
        path.write_text(text.replace(old, new))

    def write_code(self) -> None:
        code = self.folder / "code" / "shop"
        code.mkdir(parents=True)
        (code / "__init__.py").touch()
        (code / "tasks.py").write_text(TASKS)
        (code / "worker.py").write_text(HANDLER.format(adapter="WorkerHandler"))
        (code / "beat.py").write_text(HANDLER.format(adapter="BeatHandler"))

    def expand(self) -> Path:
        """Write the output of `twolane template` to a file."""
        expanded = self.folder / "expanded.json"
        expanded.write_text(json.dumps(template.expand(self.template, {}), indent=2))
        return expanded

    def found(self, rule: str, **more: Any) -> list[Finding]:
        """Return a rule's findings in the raw template; the expanded one must have the same.

        ``more`` are further fields of the subject: ``applications``, ``journal`` and others.
        """
        raw, expanded = (
            [one for one in check(replace(read_subject(path, {}), **more)) if one.rule.id == rule]
            for path in (self.template, self.expand())
        )
        assert _messages(raw) == _messages(expanded)
        return raw

    def line(self, text: str, *, file: str = "template.yaml") -> int:
        lines = (self.folder / file).read_text().splitlines()
        return next(number for number, line in enumerate(lines, 1) if text in line)


def _messages(findings: list[Finding]) -> list[tuple[str, str, int]]:
    return sorted((one.resource, one.message, one.severity) for one in findings)


@pytest.fixture(scope="session")
def expansions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def project(tmp_path: Path, expansions: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A template alone: no code is there to import."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(expansions))
    (tmp_path / "template.yaml").write_text(GOOD)
    return Project(tmp_path)


def event(kind: str, *, at: float = 0.0, **fields: Any) -> Event:
    """A journal event; what is not a place of it goes into its data."""
    places = {name: fields.pop(name) for name in
              ("function", "queue", "request_id", "message_id", "task_id")
              if name in fields}  # fmt: skip
    return Event(1, at, kind, data=fields, **places)
