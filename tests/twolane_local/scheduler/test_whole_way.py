"""Schedules through the whole emulator, in virtual time: real handlers, queue, mapping and Redis.

``time.time`` moves with the loop's clock, so the handlers and Celery see the same time as the
queues and the scheduler do.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import sys
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import time_machine

from twolane.beat.export import as_template
from twolane_local.aws.scheduler.schedule import from_properties
from twolane_local.cli import schedules as commands
from twolane_local.clock.virtual import VirtualClock, run_virtual
from twolane_local.emulator import Emulator
from twolane_local.model import Options

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

# Celery's Redis backend uses a call that redis-py has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning")

#: Modules are cached by name: each test's handlers are a module of their own.
_NUMBERS = itertools.count()

TEMPLATE = """\
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Parameters:
  RedisUrl:
    Type: String
    Default: ""
Globals:
  Function:
    Runtime: python3.13
    CodeUri: code
    Timeout: 30
    Environment:
      Variables:
        TASK_QUEUE_URL: !Ref Tasks
        RESULT_BACKEND: !Ref RedisUrl
        %(scheduler)s
Resources:
  Tasks:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 60
  Dead:
    Type: AWS::SQS::Queue
  Late:
    Type: AWS::Scheduler::ScheduleGroup
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: %(module)s.worker
      Events:
        Tasks:
          Type: SQS
          Properties:
            Queue: !GetAtt Tasks.Arn
            FunctionResponseTypes: [ReportBatchItemFailures]
  Beat:
    Type: AWS::Serverless::Function
    Properties:
      Handler: %(module)s.beat
      Events:
        Tick:
          Type: ScheduleV2
          Properties:
            ScheduleExpression: %(tick)s
        Night:
          Type: ScheduleV2
          Properties:
            ScheduleExpression: cron(30 2 * * ? *)
            ScheduleExpressionTimezone: Europe/Berlin
            Input: '{"twolane": {"run": "by-scheduler"}}'
"""
SCHEDULER = """TWOLANE_SCHEDULER_GROUP: !Ref Late
        TWOLANE_SCHEDULER_ROLE_ARN: arn:aws:iam::123456789012:role/late
        TWOLANE_SCHEDULER_DEAD_LETTER_ARN: !GetAtt Dead.Arn"""
CODE = """\
import os, time
from celery import Celery
from celery.schedules import crontab
from twolane import BeatHandler, WorkerHandler

celery = Celery("%(module)s", set_as_current=False)
celery.conf.update(
    broker_url="sqs://",
    broker_transport_options={
        "region": "us-east-1",
        "predefined_queues": {"tasks": {"url": os.environ["TASK_QUEUE_URL"]}},
        "sqs_base64_encoding": False,
    },
    task_default_queue="tasks",
    result_backend=os.environ["RESULT_BACKEND"],
    task_serializer="json", result_serializer="json", accept_content=["json"],
    timezone="Europe/Berlin",
    beat_schedule={
        "by-beat": {"task": "whole.note", "schedule": %(beat)s, "args": ["by-beat"]},
        "by-scheduler": {"task": "whole.note", "schedule": 6 * 10**8, "args": ["by-scheduler"]},
    },
)
ran = []

@celery.task(name="whole.note", shared=False)
def note(what):
    ran.append((what, time.time()))

worker = WorkerHandler(celery)
beat = BeatHandler(celery)
"""


@pytest.fixture(autouse=True)
def own_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The emulator and an in-process handler change the process: put back what they changed."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    # The object itself stays: modules imported meanwhile may hold it.
    variables = dict(os.environ)
    os.environ["XDG_CACHE_HOME"] = str(tmp_path / "cache")
    yield
    os.environ.clear()
    os.environ.update(variables)


def play(
    folder: Path,
    redis_url: str,
    begin: str,
    script: Callable[[VirtualClock, Emulator, Any], Awaitable[None]],
    *,
    tick: str = "cron(* * * * ? *)",
    beat: str = "crontab(hour=2, minute=30)",
    scheduler: bool = False,
) -> list[tuple[str, float]]:
    """Run ``script`` on an emulator; what ran, and when."""
    module = f"whole_{next(_NUMBERS)}"
    (folder / "code").mkdir()
    (folder / "code" / f"{module}.py").write_text(CODE % {"module": module, "beat": beat})
    given = {"module": module, "tick": tick, "scheduler": SCHEDULER if scheduler else "SPARE: x"}
    template = folder / "template.yaml"
    template.write_text(TEMPLATE % given)
    options = Options(template, port=0, aws_port=0, redis_url=redis_url, in_process=True)
    start = instant(begin)

    async def main(clock: VirtualClock) -> list[tuple[str, float]]:
        emulator = Emulator(options, clock=clock)
        with clock.real_time():
            await emulator.start()
        try:
            await script(clock, emulator, sys.modules[module])
        finally:
            with clock.real_time():
                await emulator.stop()
        return list(sys.modules[module].ran)

    with time_machine.travel(start, tick=False) as traveller:
        return run_virtual(main, start=start, on_leap=traveller.move_to, socket_grace_s=0)


def instant(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


@pytest.mark.parametrize("scheduler", [False, True], ids=["by hops", "by Scheduler"])
def test_a_delay_of_three_hours(tmp_path: Path, redis_url: str, scheduler: bool) -> None:
    due = 0.0

    async def script(clock: VirtualClock, emulator: Emulator, module: Any) -> None:
        nonlocal due
        due = clock.time() + 3 * 3600
        later = partial(module.note.apply_async, ("late",), countdown=3 * 3600)
        await asyncio.to_thread(later)
        await clock.sleep(3600)
        waiting = [each.name for each in emulator.book if each.group == "local-Late"]
        assert len(waiting) == scheduler
        await clock.sleep(3 * 3600)
        assert not [each for each in emulator.book if each.name in waiting]

    ran = play(
        tmp_path, redis_url, "2026-01-01T08:00:00Z", script,
        tick="rate(30 days)", scheduler=scheduler,
    )  # fmt: skip
    [(what, at)] = ran
    assert what == "late"
    assert -1e-6 <= at - due < 1  # an ETA is written to the microsecond, a clock's float is finer


def test_a_delay_whose_queue_is_gone_ends_with_the_dead_letters(
    tmp_path: Path, redis_url: str
) -> None:
    found: list[Any] = []

    async def script(clock: VirtualClock, emulator: Emulator, module: Any) -> None:
        later = partial(module.note.apply_async, ("late",), countdown=3 * 3600)
        await asyncio.to_thread(later)
        await clock.sleep(3600)
        assert [each for each in emulator.book if each.group == "local-Late"]
        emulator.queues.delete_queue("local-Tasks")
        await clock.sleep(27 * 3600)  # Scheduler tries again for a day
        found.extend(emulator.queues.receive("local-Dead", 10))

    ran = play(
        tmp_path, redis_url, "2026-01-01T08:00:00Z", script, tick="rate(30 days)", scheduler=True
    )
    assert ran == []
    (message,) = found
    # The message as published, so that a redrive sends the same task.
    assert json.loads(message.message.body)["headers"]["task"] == "whole.note"
    assert message.message.attributes["ERROR_CODE"].string


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        # 02:30 does not exist on 29 March: Celery runs at 03:30, Scheduler not at all.
        ("2026-03-29T00:00:00Z", {"by-beat": ["2026-03-29T01:30:00Z"], "by-scheduler": []}),
        # 02:30 comes twice on 25 October: both run the first time, and not the second.
        (
            "2026-10-24T23:59:00Z",
            {"by-beat": ["2026-10-25T00:30:00Z"], "by-scheduler": ["2026-10-25T00:30:00Z"]},
        ),
    ],
    ids=["spring", "autumn"],
)
def test_half_past_two_in_berlin(
    tmp_path: Path, redis_url: str, begin: str, expected: dict[str, list[str]]
) -> None:
    async def script(clock: VirtualClock, emulator: Emulator, module: Any) -> None:
        await clock.sleep(2.2 * 3600)

    ran = play(tmp_path, redis_url, begin, script)
    found = {name: [at for what, at in ran if what == name] for name in expected}
    assert {name: len(times) for name, times in found.items()} == {
        name: len(times) for name, times in expected.items()
    }
    for name, times in expected.items():
        for at, text in zip(found[name], times, strict=True):
            assert 0 <= at - instant(text) < 1, name


def test_one_schedule_for_each_entry_instead_of_the_tick(tmp_path: Path, redis_url: str) -> None:
    """Scheduler runs the output of `twolane schedules` once, by the clock of the zone."""

    async def script(clock: VirtualClock, emulator: Emulator, module: Any) -> None:
        for name, resource in as_template(module.celery)["Resources"].items():
            if name == "ByBeatSchedule":
                [beat] = [spec for spec in emulator.stack.functions if spec.logical_id == "Beat"]
                properties = resource["Properties"]
                target = {**properties["Target"], "Arn": beat.arn, "RoleArn": "role"}
                emulator.book.add(
                    from_properties(name, {**properties, "Target": target}, now=clock.time())
                )
        await clock.sleep(2 * 86_400)

    ran = play(tmp_path, redis_url, "2026-10-24T12:00:00Z", script, tick="rate(30 days)")
    found = [at for what, at in ran if what == "by-beat"]
    due = [instant("2026-10-25T00:30:00Z"), instant("2026-10-26T01:30:00Z")]
    assert len(found) == len(due)
    assert all(0 <= at - slot < 1 for at, slot in zip(found, due, strict=True))


def test_the_command_asks_the_function_that_runs(
    tmp_path: Path, redis_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def script(clock: VirtualClock, emulator: Emulator, module: Any) -> None:
        url = emulator.addresses.aws
        await clock.sleep(90)
        for words in (["list", "--json"], ["run", "by-scheduler"]):
            parser = argparse.ArgumentParser()
            commands.configure(parser)
            arguments = ["--function", "Beat", "--endpoint-url", url]
            options = parser.parse_args([*words, *arguments])
            assert await asyncio.to_thread(commands.run, options) == 0
        await clock.sleep(5)

    ran = play(tmp_path, redis_url, "2026-01-01T08:00:00Z", script)
    assert [what for what, _ in ran] == ["by-scheduler"]
    listed, sent = capsys.readouterr().out.splitlines()[-2:]
    assert [entry["name"] for entry in json.loads(listed)] == ["by-beat", "by-scheduler"]
    assert json.loads(listed)[0]["next"][0] == "2026-01-02T01:30:00Z"
    assert sent.startswith("by-scheduler sent as task ")


def test_seconds_are_on_time(tmp_path: Path, redis_url: str) -> None:
    async def script(clock: VirtualClock, emulator: Emulator, module: Any) -> None:
        await clock.sleep(290)

    ran = play(tmp_path, redis_url, "2026-01-01T08:00:00Z", script, beat="20.0")
    times = [at for _, at in ran]
    # From the first tick on, which is the first full minute after the start.
    first = instant("2026-01-01T08:01:00Z")
    assert len(times) == 11
    for number, at in enumerate(times, start=1):
        assert 0 <= at - (first + 20 * number) < 1
