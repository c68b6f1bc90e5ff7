"""The ten worst faults against real parts: processes, signals, a real Redis, a proxy that cuts.

All go wrong side by side in one emulator with isolated environments; each test looks at its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import redis

from twolane_local.aws.sqs.service import NewMessage
from twolane_local.emulator import Emulator
from twolane_local.journal.messages import task_message
from twolane_local.model import Options
from twolane_local.testing.processes.live import LiveWatch, Proxy
from twolane_local.testing.simulation.invariants import Bounds, Violation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
QUEUE, DEAD = "live-tasks", "live-dead"
TEMPLATE = f"""
Transform: AWS::Serverless-2016-10-31
Parameters:
  RedisUrl: {{Type: String}}
  LedgerUrl: {{Type: String}}
Resources:
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: live_application.handler
      CodeUri: src/
      Runtime: python3.13
      Timeout: 3
      MemorySize: 512
      Environment:
        Variables:
          TASK_QUEUE_URL: !Ref Tasks
          RESULT_BACKEND: !Ref RedisUrl
          LEDGER_URL: !Ref LedgerUrl
      Events:
        Tasks:
          Type: SQS
          Properties:
            Queue: !GetAtt Tasks.Arn
            BatchSize: 1
            FunctionResponseTypes: [ReportBatchItemFailures]
            ScalingConfig: {{MaximumConcurrency: 4}}
  Tasks:
    Type: AWS::SQS::Queue
    Properties:
      QueueName: {QUEUE}
      VisibilityTimeout: 6
      RedrivePolicy: {{deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 5}}
  Dead:
    Type: AWS::SQS::Queue
    Properties: {{QueueName: {DEAD}}}
"""
#: Fault → what the task is told; each happens inside its own execution environment.
INSIDE = {
    "environment.killed-before-task": "before",
    "environment.killed-during-task": "during",
    "environment.killed-after-effect": "after-effect",
    "environment.killed-after-result": "after-result",
    "environment.timeout": "timeout",
    "environment.out-of-memory": "out-of-memory",
}


@dataclass
class Told:
    """What the whole run has shown."""

    tasks: dict[str, str] = field(default_factory=dict)  # fault → task id
    states: dict[str, str] = field(default_factory=dict)  # task id → its last state
    effects: dict[str, int] = field(default_factory=dict)  # task id → how often
    fired: dict[str, int] = field(default_factory=dict)  # fault → how often
    dead: dict[str, str] = field(default_factory=dict)  # message id → body
    poison: str = ""
    violations: list[Violation] = field(default_factory=list)


class Run:
    def __init__(self, folder: Path, ledger_url: str) -> None:
        self.folder, self.ledger_url = folder, ledger_url
        self.ledger: Any = redis.Redis.from_url(ledger_url, decode_responses=True)
        self.told = Told()

    async def main(self) -> Told:
        port = int(self.ledger_url.rpartition(":")[2].partition("/")[0])
        async with Proxy("127.0.0.1", port) as proxy:
            self.proxy = proxy
            url = f"redis://127.0.0.1:{proxy.port}/0"
            self.emulator = Emulator(
                Options(
                    self.folder / "template.yaml",
                    port=0,
                    aws_port=0,
                    redis_url=url,
                    parameters={"LedgerUrl": self.ledger_url},
                )
            )
            await self.emulator.start()
            try:
                self.watch = LiveWatch(self.emulator, redis.Redis.from_url(self.ledger_url))
                await self._script()
            finally:
                await self.emulator.stop()
        self._count()
        return self.told

    async def _script(self) -> None:
        await self._inside()
        await self._frozen()
        await self._twice()
        await self._answer_lost()
        await self._down()
        self.watch.faults_ended()
        await self._until(lambda: not len(self.emulator.queues.refreshed(QUEUE)), 40)
        dead = self.emulator.queues.refreshed(DEAD)
        self.told.dead = {entry.message.id: entry.message.body for entry in dead}
        self.told.violations = self.watch.violations(Bounds(5, 60.0), (QUEUE,), DEAD)

    def send(self, fault: str, wanted: str, *, task: str | None = None) -> str:
        task = task or str(uuid.uuid4())
        self.told.tasks[fault] = task
        _, body = task_message("live.work", [wanted], {}, task_id=task)
        self.emulator.queues.send(QUEUE, NewMessage(body))
        self.watch.acknowledged(task)
        return task

    def state(self, task: str) -> str | None:
        text = self.ledger.get(f"celery-task-meta-{task}")
        return str(json.loads(text)["status"]) if text else None

    async def _until(self, what: Callable[[], object], seconds: float = 30) -> None:
        async with asyncio.timeout(seconds):
            while not what():
                await asyncio.sleep(0.05)

    async def _inside(self) -> None:
        for fault, wanted in INSIDE.items():
            self.send(fault, wanted)
        self.told.poison = "this is no task"
        self.emulator.queues.send(QUEUE, NewMessage(self.told.poison))
        tasks = list(self.told.tasks.values())
        await self._until(lambda: all(self.state(task) == "SUCCESS" for task in tasks), 60)

    async def _frozen(self) -> None:
        """A stalled machine: it is stopped inside the task, and goes on when all is over."""
        task = str(uuid.uuid4())
        _, body = task_message("live.work", ["frozen"], {}, task_id=task)
        arn = f"arn:aws:sqs:us-east-1:123456789012:{QUEUE}"
        record = {
            "messageId": "m",
            "receiptHandle": "r",
            "body": body,
            "eventSource": "aws:sqs",
            "eventSourceARN": arn,
            "attributes": {"ApproximateReceiveCount": "1"},
        }
        code = (
            "import json, sys, time; from live_application import handler\n"
            "ends = time.monotonic() + 3\n"
            "class Context:\n"
            "    aws_request_id = 'stalled'\n"
            "    def get_remaining_time_in_millis(self):\n"
            "        return int((ends - time.monotonic()) * 1000)\n"
            "handler(json.loads(sys.argv[1]), Context())\n"
        )
        environ = {
            **os.environ,
            "PYTHONPATH": f"{self.folder / 'src'}:{ROOT / 'handlers'}",
            "TASK_QUEUE_URL": f"{self.emulator.aws_url}/123456789012/{QUEUE}",
            "AWS_ENDPOINT_URL": self.emulator.aws_url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "RESULT_BACKEND": self.ledger_url,
            "LEDGER_URL": self.ledger_url,
        }
        event = json.dumps({"Records": [record]})
        with (self.folder / "stalled.log").open("wb") as log:
            stalled = subprocess.Popen(
                [sys.executable, "-c", code, event], env=environ, stdout=log, stderr=log
            )
        try:
            await self._until(lambda: self.ledger.get(f"mark:{task}:frozen"), 20)
            self.emulator.queues.send(QUEUE, NewMessage(body))  # SQS delivers it again
            self.told.tasks["environment.frozen"] = task
            self.watch.acknowledged(task)
            await self._until(lambda: self.state(task) == "SUCCESS", 30)
            stalled.send_signal(signal.SIGCONT)
            await asyncio.to_thread(stalled.wait, 20)
        finally:
            stalled.kill()
            stalled.wait()

    async def _twice(self) -> None:
        faults = self.emulator.faults
        faults.inject("queue.two-deliveries-at-once", target=QUEUE)
        task = self.send("queue.two-deliveries-at-once", "nothing")
        await self._until(lambda: self.state(task) == "SUCCESS")
        self.told.fired["queue.two-deliveries-at-once"] = faults.fired(
            "queue.two-deliveries-at-once"
        )
        faults.clear()

    async def _answer_lost(self) -> None:
        """Redis has stored the result and ended the lease; nobody hears of it."""
        self.proxy.cut_answers(b'"status": "SUCCESS"')
        task = self.send("store.reply-lost", "nothing")
        await self._until(lambda: self.state(task) == "SUCCESS")
        self.told.fired["store.reply-lost"] = self.proxy.cuts

    async def _down(self) -> None:
        self.proxy.down = True
        task = self.send("store.down", "nothing")
        await self._until(lambda: self.proxy.refused >= 1)
        await asyncio.sleep(2)
        self.told.fired["store.down"] = self.proxy.refused
        self.proxy.down = False
        await self._until(lambda: self.state(task) == "SUCCESS", 90)

    def _count(self) -> None:
        told = self.told
        for text in self.ledger.lrange("effects", 0, -1):
            task = json.loads(text)["task"]
            told.effects[task] = told.effects.get(task, 0) + 1
        points = {json.loads(text)["task"] for text in self.ledger.lrange("fired", 0, -1)}
        for fault, task in told.tasks.items():
            told.states[task] = self.state(task) or "PENDING"
            if task in points:
                told.fired[fault] = 1


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, redis_server: str) -> Iterator[Told]:
    """Redis's second database, so that others may use the first."""
    folder = tmp_path_factory.mktemp("live")
    (folder / "src").mkdir()
    shutil.copy(HERE / "live_application.py", folder / "src")
    (folder / "template.yaml").write_text(textwrap.dedent(TEMPLATE))
    before = dict(os.environ)
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
    client = redis.Redis.from_url(f"{redis_server}/0")
    client.flushall()
    try:
        yield asyncio.run(Run(folder, f"{redis_server}/0").main())
    finally:
        client.flushall()
        client.close()
        os.environ.clear()
        os.environ.update(before)


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore:Call to deprecated:DeprecationWarning"),
]

#: Fault → how often its effect is seen: twice where it happened before anybody could know of it.
LIVE = {
    **dict.fromkeys(INSIDE, 1),
    "environment.killed-after-effect": 2,
    "environment.frozen": 1,
    "queue.two-deliveries-at-once": 1,
    "store.reply-lost": 1,
    "store.down": 1,
}


@pytest.mark.parametrize("fault", LIVE)
def test_live(told: Told, fault: str) -> None:
    task = told.tasks[fault]
    assert told.fired.get(fault, 0) >= 1, "the fault never happened"
    assert told.states[task] == "SUCCESS"
    assert told.effects.get(task) == LIVE[fault]


def test_a_poison_body_is_on_the_dead_letter_queue_as_it_was_sent(told: Told) -> None:
    assert list(told.dead.values()) == [told.poison]


def test_no_invariant_is_broken(told: Told) -> None:
    assert [str(each) for each in told.violations] == []
