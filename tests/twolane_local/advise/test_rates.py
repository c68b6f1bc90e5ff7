from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from twolane_local.checks.advise import LaneStats, WorkStats, cost_factors
from twolane_local.checks.lint.subject import read_subject

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parents[3]
TEMPLATE = """\
Resources:
  Api:
    Type: AWS::Lambda::Function
    Properties: {Handler: a.b, Runtime: python3.13, MemorySize: 512}
  Worker:
    Type: AWS::Lambda::Function
    Properties: {Handler: a.b, Runtime: python3.13, Architectures: [arm64]}
  Orders: {Type: AWS::SQS::Queue, Properties: {FifoQueue: true}}
  Mapping:
    Type: AWS::Lambda::EventSourceMapping
    Properties: {FunctionName: !Ref Worker, EventSourceArn: !GetAtt Orders.Arn}
"""
WORK = [WorkStats("mail", inline=LaneStats("Api"), deferred=LaneStats("Worker"))]


def test_what_the_template_says_of_the_measured_functions(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    path.write_text(TEMPLATE)
    factors = cost_factors(read_subject(path, {}), WORK, requests=5)
    assert (factors.requests, factors.api_memory_mb, factors.worker_memory_mb) == (5, 512, 128)
    assert (factors.architecture, factors.fifo, factors.dynamodb) == ("arm64", True, False)
    assert factors.per_task_metrics


def test_metrics_that_the_template_turns_off(tmp_path: Path) -> None:
    path = tmp_path / "template.yaml"
    for name, value in (("PER_TASK", "false"), ("NAMESPACE", "")):
        off = f'{{Variables: {{TWOLANE_METRICS_{name}: "{value}"}}}}'
        path.write_text(TEMPLATE.replace("[arm64]}", f"[arm64], Environment: {off}}}"))
        assert not cost_factors(read_subject(path, {}), WORK, requests=5).per_task_metrics


def test_our_own_template(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names = [WorkStats("x", inline=LaneStats("ApiFunction"), deferred=LaneStats("WorkerFunction"))]
    factors = cost_factors(read_subject(Path("template.yaml"), {}), names, requests=1)
    assert (factors.architecture, factors.fifo, factors.dynamodb) == ("x86_64", False, True)
    assert factors.api_memory_mb >= 512
