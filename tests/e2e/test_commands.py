"""The commands as processes, against a running `twolane up`, and against the same as a "real" stack
through its AWS endpoint, which boto3 cannot tell from AWS.
"""

from __future__ import annotations

import json
import os
import pty
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from .conftest import BIN, clean_environ, until, up

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Globals:
  Function:
    CodeUri: src/
    Runtime: python3.13
    Timeout: 10
    Environment:
      Variables: {QUEUE: !Ref Tasks, STORE: !Ref RedisUrl}
Parameters:
  RedisUrl: {Type: String}
  Owner: {Type: String}
Resources:
  Tasks:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 60
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 1}
  Dead: {Type: AWS::SQS::Queue}
  Parked: {Type: AWS::SQS::Queue}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: shop.handler
      Events:
        Tasks:
          Type: SQS
          Properties:
            Queue: !GetAtt Tasks.Arn
            FunctionResponseTypes: [ReportBatchItemFailures]
  Beat:
    Type: AWS::Serverless::Function
    Properties:
      Handler: shop.beat
      Events: {Tick: {Type: ScheduleV2, Properties: {ScheduleExpression: cron(0 0 1 1 ? *)}}}
  Echo:
    Type: AWS::Serverless::Function
    Properties: {Handler: echo.handler, Events: {Any: {Type: HttpApi}}}
"""
ECHO = """
def handler(event, context):
    print("echoed")
    return {"statusCode": 200, "body": "echo"}
"""
SHOP = """
import os
from celery import Celery
from twolane import BeatHandler, WorkerHandler

celery = Celery("shop", broker="sqs://", backend=os.environ["STORE"])
celery.conf.update(
    task_serializer="json", accept_content=["json"], task_default_queue="tasks",
    broker_transport_options={
        "region": "us-east-1", "predefined_queues": {"tasks": {"url": os.environ["QUEUE"]}},
        "sqs_base64_encoding": False,
    },
    beat_schedule={"yearly": {"task": "shop.divide", "schedule": 3e7, "args": (9, 3)}},
)

@celery.task(name="shop.divide", acks_late=True, acks_on_failure_or_timeout=False)
def divide(total, parts, unit="EUR"):
    return f"{total / parts:g} {unit}"

handler = WorkerHandler(celery)
beat = BeatHandler(celery)
"""


@dataclass(frozen=True)
class Shop:
    """A project whose emulator runs."""

    folder: Path
    said: dict[str, Any]

    def run(
        self, *arguments: str, code: int = 0, **environ: str
    ) -> subprocess.CompletedProcess[str]:
        """One command, as in a shell in the project's folder, with no terminal."""
        done = subprocess.run(
            [str(BIN / "twolane"), *arguments], cwd=self.folder, capture_output=True, text=True,
            timeout=60, check=False, stdin=subprocess.DEVNULL,
            env=clean_environ(XDG_CACHE_HOME=str(self.folder / "cache"), XDG_RUNTIME_DIR="",
                              **environ),
        )  # fmt: skip
        assert done.returncode == code, f"{arguments}: {done.stdout}{done.stderr}"
        assert "Traceback" not in done.stderr
        return done

    def json(self, *arguments: str, code: int = 0, **environ: str) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code, **environ).stdout)

    def stack(self, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """The same emulator, asked as AWS would be."""
        return self.run(*arguments, "--stack", "local", code=code, **self.aws)

    def stack_json(self, *arguments: str) -> Any:
        return self.json(*arguments, "--stack", "local", **self.aws)

    @property
    def aws(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.said["aws"], "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing",
            "AWS_CONFIG_FILE": "/dev/null", "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }  # fmt: skip

    def api(self, route: str) -> Any:
        """What the control API says: cheaper, where a test only waits, than a command."""
        return httpx.get(f"{self.said['console']}/api/{route}", trust_env=False).json()

    def state(self, task_id: str, *wanted: str) -> dict[str, Any]:
        """The run of a task, once it is in one of the states."""

        def look() -> dict[str, Any] | None:
            for run in self.api("tasks/shop.divide?limit=100")["history"]:
                if run["taskId"] == task_id and run["state"] in wanted:
                    return dict(run)
            return None

        return until(look, f"{task_id} in {wanted}")

    def dead(self, task_id: str) -> dict[str, Any]:
        """The dead letter of a task, once there is one."""

        def look() -> dict[str, Any] | None:
            found = self.api("queues/local-Dead/messages")["messages"]
            return next((each for each in found if each["task"]["id"] == task_id), None)

        return until(look, f"dead letter of {task_id}")

    def send(self, *args: Any) -> str:
        return str(self.json("send", "shop.divide", "--args", json.dumps(args))["taskId"])


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("shop")
    (folder / "src").mkdir()
    (folder / "src" / "shop.py").write_text(SHOP)
    (folder / "src" / "echo.py").write_text(ECHO)
    (folder / "template.yaml").write_text(TEMPLATE)
    own = {"XDG_CACHE_HOME": str(folder / "cache"), "XDG_RUNTIME_DIR": ""}
    with up(folder, "--no-reload", "--parameter", "Owner=Ada", cwd=folder, **own) as (_, said):
        yield Shop(folder, said)


def test_a_task_is_sent_traced_and_run_again(shop: Shop) -> None:
    sent = shop.json("send", "shop.divide", "--args", "[6, 3]", "--kwargs", '{"unit": "CHF"}')
    assert sent["queue"] == "local-Tasks"
    run = shop.state(sent["taskId"], "ok")
    assert (run["attempts"], run["name"]) == (1, "shop.divide")
    lines = shop.run("trace", sent["taskId"][:8]).stdout.splitlines()
    assert lines[0].startswith(sent["taskId"])
    assert any("shop.divide" in line and "█" in line for line in lines)
    trace = shop.json("trace", sent["taskId"])
    assert {"receive", "attempt"} <= {span["kind"] for span in trace["spans"]}
    again = shop.json("replay", sent["taskId"], "--args", "[9, 3]")
    assert again["id"] != sent["taskId"]
    assert shop.state(again["id"], "ok")["args"] == [9, 3]
    assert "succeeded" in shop.run("tail", "--id", again["id"]).stdout


def test_beats_entries_of_a_template_that_needs_parameters(shop: Shop) -> None:
    # What runs has them; the command line of every command would have to repeat them.
    (entry,) = shop.json("schedules", "list")
    assert (entry["name"], entry["task"]) == ("yearly", "shop.divide")
    sent = shop.json("schedules", "run", "yearly")
    assert shop.state(sent["taskId"], "ok")["args"] == [9, 3]


def test_a_request_is_run_again(shop: Shop) -> None:
    httpx.get(f"{shop.said['api']}/hello?x=1", trust_env=False).raise_for_status()
    (event,) = [
        json.loads(line)
        for line in shop.run("tail", "--kind", "request.received", "--json").stdout.splitlines()
    ]
    assert event["data"]["path"] == "/hello"
    again = shop.json("replay", event["requestId"])
    assert again["kind"] in {"request", "invocation"}
    trace = until(lambda: shop.json("trace", again["id"]), "trace of the replayed request")
    assert trace["spans"]


def test_a_dead_letter_is_shown_edited_redriven_and_succeeds(shop: Shop) -> None:
    task_id = shop.send(1, 0)
    letter = shop.dead(task_id)
    assert (letter["source"], letter["task"]["args"]) == ("local-Tasks", [1, 0])
    listed = shop.run("dlq", "list", "--task", "shop.divide").stdout
    assert "shop.divide(1, 0)" in listed
    assert "ZeroDivisionError" in listed
    shown = shop.run("dlq", "show", task_id[:8]).stdout
    assert letter["id"] in shown
    assert "ZeroDivisionError" in shown
    done = shop.json("dlq", "redrive", "--id", letter["id"], "--args", "[8, 2]")
    assert [each["messageId"] for each in done["redriven"]] == [letter["id"]]
    run = shop.state(task_id, "ok")
    assert run["attempts"] == 2
    assert letter["id"] not in {each["id"] for each in shop.json("dlq", "list")}


@pytest.mark.slow
def test_the_same_of_a_stack_by_boto3(shop: Shop) -> None:
    task_id = shop.send(5, 0)
    letter = shop.dead(task_id)
    found = {each["task"]["id"]: each for each in shop.stack_json("dlq", "list")}
    assert found[task_id]["id"] == letter["id"]
    assert found[task_id]["source"] == "local-Tasks"
    assert shop.stack_json("dlq", "show", task_id)["task"] == letter["task"]

    refused = shop.stack("dlq", "redrive", "--id", letter["id"], code=3)
    assert refused.stdout == ""
    assert "stack local (123456789012, us-east-1)" in refused.stderr
    assert "--yes" in refused.stderr
    assert shop.dead(task_id)["id"] == letter["id"], "nothing was changed"

    done = shop.stack("dlq", "redrive", "--id", letter["id"], "--args", "[6, 2]", "--yes")
    assert f"{letter['id']} is on local-Tasks again, as " in done.stdout
    assert shop.state(task_id, "ok")["attempts"] == 2


@pytest.mark.slow
def test_a_stacks_queues_and_a_send(shop: Shop) -> None:
    here = {each["name"]: each for each in shop.json("queues")}
    there = {each["name"]: each for each in shop.stack_json("queues")}
    assert there.keys() == here.keys()
    for name, queue in there.items():
        known = ("arn", "deadLetterQueue", "maxReceiveCount", "visibilityTimeout", "deadLetterOf")
        assert {key: queue.get(key) for key in known} == {key: here[name].get(key) for key in known}
        assert [each["function"] for each in queue["mappings"]] == [
            each["function"] for each in here[name]["mappings"]
        ]
    shop.stack("send", "shop.divide", "--args", "[1, 1]", code=3)
    sent = shop.stack_json("send", "shop.divide", "--args", "[1, 1]", "--yes")
    assert shop.state(sent["taskId"], "ok")
    looked = shop.stack("messages", "local-Tasks", code=2)
    assert "are not read" in looked.stderr


def test_purge_needs_a_yes_and_says_how_many(shop: Shop) -> None:
    task_id = shop.send(2, 0)
    shop.dead(task_id)
    assert "--yes" in shop.run("dlq", "purge", "--id", task_id, code=3).stderr
    assert shop.run("dlq", "purge", "--id", task_id, "--yes").stdout == (
        "1 deleted from local-Dead\n"
    )
    gone = shop.run("dlq", "purge", "--id", task_id, "--yes", code=1)
    assert "matches message" in gone.stderr
    assert shop.run("dlq", "show", task_id, code=1).stderr.startswith("no dead letter in ")


@pytest.mark.slow
def test_messages_are_looked_at_without_receiving_them(shop: Shop) -> None:
    import boto3

    client: Any = boto3.client
    sqs = client("sqs", endpoint_url=shop.said["aws"], region_name="us-east-1",
                 aws_access_key_id="a", aws_secret_access_key="b")  # fmt: skip
    identifier = sqs.send_message(
        QueueUrl=shop.said["queues"]["local-Parked"], MessageBody="not a task"
    )["MessageId"]
    assert "(no task) not a task" in shop.run("messages", "local-Parked").stdout
    for _ in range(2):
        (message,) = shop.json("messages", "local-Parked")
        assert (message["id"], message["receiveCount"]) == (identifier, 0)
    assert "no message" in shop.run("messages", "local-Parked", "--task", "shop.divide").stdout


@pytest.mark.slow
def test_tables_for_a_person(shop: Shop) -> None:
    assert "Worker" in shop.run("functions").stdout
    assert "shop.divide" in shop.run("tasks").stdout
    queues = shop.run("queues").stdout
    assert "local-Dead after 1" in queues
    assert "\x1b" not in queues, "no colours where nobody looks"
    assert "nothing" in next(line for line in queues.splitlines() if "Parked" in line)


@pytest.mark.slow
def test_tail_follows_until_its_reader_goes(shop: Shop) -> None:
    with subprocess.Popen(
        [str(BIN / "twolane"), "tail", "-f", "-n", "0", "--task", "shop.divide", "--json"],
        cwd=shop.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env=clean_environ(XDG_CACHE_HOME=str(shop.folder / "cache"), XDG_RUNTIME_DIR=""),
    ) as tail:  # fmt: skip
        assert tail.stdout is not None
        assert tail.stderr is not None
        until(lambda: shop.send(3, 3) and _readable(tail), "first line of tail")
        first = json.loads(tail.stdout.readline())
        assert first["data"]["taskName"] == "shop.divide"
        tail.stdout.close()
        until(lambda: (shop.send(3, 3) and tail.poll() is not None) or None, "end of tail")
        assert (tail.returncode, tail.stderr.read()) == (141, "")


def _readable(process: subprocess.Popen[str]) -> bool | None:
    import select

    return bool(select.select([process.stdout], [], [], 1)[0]) or None


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["trace", "no-such-id-here"], 1, "nothing has the id"),
        (["replay", "no-such-id-here"], 2, "no-such-id-here"),
        (["tasks", "no.such.task"], 1, "no run of no.such.task is known"),
        (["dlq", "redrive"], 2, "one of the arguments --id --task --all is required"),
    ],
)
def test_mistakes_say_what_to_do(shop: Shop, arguments: list[str], code: int, words: str) -> None:
    done = shop.run(*arguments, code=code)
    assert words in done.stderr


def test_without_an_emulator_it_says_what_to_start(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(BIN / "twolane"), "queues"], cwd=tmp_path, capture_output=True, text=True, timeout=30,
        check=False, env=clean_environ(XDG_CACHE_HOME=str(tmp_path), XDG_RUNTIME_DIR=""),
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "! no emulator with a console runs; start one with `twolane up`\n"


def on_terminal(shop: Shop, answer: str, *arguments: str, **environ: str) -> tuple[int, str]:
    """A command with a terminal before it, on which somebody types; its code and the screen."""
    terminal, slave = pty.openpty()
    process = subprocess.Popen(
        [str(BIN / "twolane"), *arguments], cwd=shop.folder, stdin=slave, stdout=slave,
        stderr=slave, start_new_session=True,
        env=clean_environ(XDG_CACHE_HOME=str(shop.folder / "cache"), XDG_RUNTIME_DIR="",
                          TERM="xterm", **environ),
    )  # fmt: skip
    os.close(slave)
    if answer:
        os.write(terminal, answer.encode() + b"\n")
    screen = b""
    while True:
        try:
            screen += os.read(terminal, 65536)
        except OSError:  # the command has ended, and the terminal with it
            break
    os.close(terminal)
    return process.wait(30), screen.decode()


@pytest.mark.slow
def test_a_person_is_asked_before_a_stack_is_changed(shop: Shop) -> None:
    task_id = shop.send(4, 0)
    letter = shop.dead(task_id)
    arguments = ("dlq", "redrive", "--id", letter["id"], "--args", "[4, 1]", "--stack", "local")
    code, screen = on_terminal(shop, "n", *arguments, **shop.aws)
    assert code == 3
    assert "stack local (123456789012, us-east-1)? [y/N]" in screen
    assert "\x1b[31m! nothing was changed" in screen
    code, screen = on_terminal(shop, "y", *arguments, **shop.aws)
    assert (code, "again, as" in screen) == (0, True), screen
    assert shop.state(task_id, "ok")


@pytest.mark.slow
def test_colours_are_for_a_terminal_that_wants_them(shop: Shop) -> None:
    code, screen = on_terminal(shop, "", "trace", "no-such-id-here", NO_COLOR="1")
    assert (code, "\x1b[31m" in screen) == (1, False)
    _, screen = on_terminal(shop, "", "trace", "short")
    assert "\x1b[31m! 'short' is too short" in screen
