"""The plugin as pytest loads it, in sessions of its own."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytest_plugins = ["pytester"]

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  RedisUrl: {Type: String, Default: ""}
  Greeting: {Type: String, Default: hello}
Globals:
  Function:
    CodeUri: src/
    Runtime: python3.13
    Timeout: 30
    Environment:
      Variables:
        TASK_QUEUE_URL: !Ref Tasks
        RESULT_BACKEND: !Ref RedisUrl
        GREETING: !Ref Greeting
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: shop.api
      Events: {All: {Type: HttpApi}}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: shop.worker
      Events:
        Queue:
          Type: SQS
          Properties: {Queue: !GetAtt Tasks.Arn, FunctionResponseTypes: [ReportBatchItemFailures]}
  Tasks:
    Type: AWS::SQS::Queue
    Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}}
  Dead: {Type: AWS::SQS::Queue}
"""
SHOP = """
import os
from celery import Celery
from fastapi import FastAPI
from twolane import ApiHandler, WorkerHandler

celery = Celery("shop")
celery.conf.update(
    broker_url="sqs://",
    broker_transport_options={
        "region": "us-east-1",
        "predefined_queues": {"tasks": {"url": os.environ["TASK_QUEUE_URL"]}},
        "sqs_base64_encoding": False,
    },
    task_default_queue="tasks", result_backend=os.environ["RESULT_BACKEND"],
    accept_content=["json"],
)

@celery.task(name="shop.greet")
def greet(name):
    return f"{os.environ['GREETING']} {name}"

app = FastAPI()

@app.post("/greetings/{name}")
def publish(name: str):
    return {"id": greet.delay(name).id}

api = ApiHandler(app)
worker = WorkerHandler(celery)
"""
CONFIGURATION = """
[pytest]
asyncio_default_fixture_loop_scope = function
filterwarnings = error
"""
PASSES = """
def test_greets(twolane):
    identity = twolane.client.post("/greetings/ann").json()["id"]
    assert twolane.deferred.run() == 1
    assert twolane.tasks[identity].state == "SUCCESS"
    from shop import greet
    assert greet.AsyncResult(identity).result == "hello ann"
"""


FAILS = """
import pytest

def test_fails(twolane):
    twolane.client.post("/greetings/ann")
    twolane.clock.advance(90)
    assert twolane.tasks["greet"].state == "FAILURE"

def test_fails_without(request):
    assert not request

@pytest.mark.twolane("template.yaml")
def test_positional(twolane):
    pass

@pytest.mark.twolane(parameters={"Nope": "1"})
def test_unknown(twolane):
    pass

@pytest.mark.twolane(template="nowhere.yaml")
def test_missing(twolane):
    pass
"""
MORE = """
import pytest

@pytest.mark.asyncio
async def test_in_a_coroutine(twolane):
    assert twolane.client.post("/greetings/bob").status_code == 200
    assert twolane.deferred.run() == 1

@pytest.mark.twolane(parameters={"Greeting": "welcome"}, start="2030-06-01T12:00:00", seed=5)
def test_by_marker(twolane):
    from shop import greet
    identity = greet.delay("eve").id
    assert twolane.deferred.run() == 1
    assert greet.AsyncResult(identity).result == "welcome eve"
    assert twolane.clock.now.isoformat() == "2030-06-01T12:00:00+00:00"
    assert twolane.seed == 5

def test_is_new(twolane):
    assert len(twolane.queue("Tasks")) == 0

def api(event, context):
    return {"statusCode": 200, "body": event["rawPath"]}

class TestBare:
    @pytest.fixture
    def twolane_project(self):
        from twolane_local.testing.project import of_handlers
        return of_handlers(api=api)

    def test_echo(self, twolane):
        assert twolane.client.get("/a/b").text == "/a/b"
"""
#: An application that Celery's variables configure; its tasks and results name no application.
SHARED = """
import os
from celery import Celery, shared_task
from celery.result import AsyncResult
from fastapi import FastAPI
from twolane import ApiHandler, WorkerHandler

celery = Celery("shop")
celery.conf.update(
    broker_transport_options={
        "region": "us-east-1",
        "predefined_queues": {"celery": {"url": os.environ["TASK_QUEUE_URL"]}},
    },
)

@shared_task(name="shop.greet")
def greet(name):
    return f"hello {name}"

app = FastAPI()

@app.get("/tasks/{id}")
def state(id: str):
    return AsyncResult(id).state

api = ApiHandler(app)
worker = WorkerHandler(celery)
"""
SHARES = """
import pytest

@pytest.mark.parametrize("name", ["ann", "bob"])
def test_greets(twolane, name):
    from celery.result import AsyncResult
    from shop import greet
    identity = greet.delay(name).id
    assert twolane.deferred.run() == 1
    assert AsyncResult(identity).result == f"hello {name}"
    assert twolane.client.get(f"/tasks/{identity}").json() == "SUCCESS"
"""
#: Plugins of this repository's own tests, which cost a session a second.
_WITHOUT = tuple(
    each
    for name in ("schemathesis", "hypothesispytest", "randomly", "django", "pytest_cov")
    for each in ("-p", f"no:{name}")
)


@pytest.fixture
def project(
    pytester: pytest.Pytester, tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> pytest.Pytester:  # fmt: skip
    # The expanded template is the same each time.
    cache = tmp_path_factory.getbasetemp().parent / "twolane-cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    pytester.makefile(".yaml", template=TEMPLATE)
    pytester.makeini(CONFIGURATION)
    (pytester.mkdir("src") / "shop.py").write_text(SHOP)
    return pytester


def run(project: pytest.Pytester, *options: str) -> pytest.RunResult:
    return project.runpytest_subprocess(*_WITHOUT, *options)


@pytest.mark.slow
def test_with_xdist(project: pytest.Pytester) -> None:
    project.makepyfile(test_first=PASSES, test_second=PASSES + MORE)
    run(project, "-n", "2").assert_outcomes(passed=6)


def test_what_names_no_application_means_the_templates_in_each_test(
    project: pytest.Pytester,
) -> None:
    template = TEMPLATE.replace(
        "        RESULT_BACKEND:",
        "        CELERY_BROKER_URL: sqs://\n        CELERY_RESULT_BACKEND:",
    )
    project.makefile(".yaml", template=template)
    (project.path / "src" / "shop.py").write_text(SHARED)
    project.makepyfile(test_shared=SHARES)
    run(project).assert_outcomes(passed=2)


def test_a_failing_test_shows_its_journal_and_seed(project: pytest.Pytester) -> None:
    project.makepyfile(test_first=PASSES, test_second=PASSES + MORE, test_third=FAILS)
    result = run(project, "--twolane-seed=5", "-p", "no:logging")
    result.assert_outcomes(passed=6, failed=2, errors=3)
    result.stdout.fnmatch_lines_random(
        [
            "*- twolane journal (--twolane-seed=5) -*",
            "*+0.000 → gateway * POST /greetings/ann  *",
            "*+0.000 → Api * published shop.greet  *",
            "*+0.000 → Worker * shop.greet started  *",
            "*+0.000 ← Worker * shop.greet succeeded  *",
            "*takes arguments by name only*",
            "*has no parameter 'Nope'*",
            "*nowhere.yaml is not there: name the template*",
        ]
    )
    assert result.stdout.str().count("twolane journal") == 1


@pytest.mark.slow
def test_the_template_of_the_configuration_is_there_at_collection(project: pytest.Pytester) -> None:
    project.makeini(
        CONFIGURATION + "twolane_template = template.yaml\ntwolane_parameters =\n  Greeting=salve\n"
    )
    project.makepyfile(
        """
from shop import greet

def test_first(twolane):
    identity = greet.delay("ann").id
    twolane.deferred.run()
    assert greet.AsyncResult(identity).result == "salve ann"
"""
    )
    run(project).assert_outcomes(passed=1)


def test_the_project_says_where_its_template_is_and_what_it_is_given(
    project: pytest.Pytester,
) -> None:
    """As `twolane up` finds it: nothing of it stands in pytest's configuration."""
    folder = project.mkdir("infra")
    text = TEMPLATE.replace("Greeting: {Type: String, Default: hello}", "Greeting: {Type: String}")
    (folder / "shop.yml").write_text(text.replace("CodeUri: src/", "CodeUri: ../src/"))
    (project.path / "template.yaml").unlink()
    (project.path / "samconfig.toml").write_text(
        '[default.global.parameters]\ntemplate_file = "infra/shop.yml"\n'
        '[default.deploy.parameters]\nparameter_overrides = "Greeting=hello RedisUrl=redis://127.0.0.1:1/0"\n'
    )
    project.makepyfile(test_first=PASSES)
    run(project).assert_outcomes(passed=1)


@pytest.mark.slow
def test_what_was_imported_too_early_is_said(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TASK_QUEUE_URL", "https://sqs.us-east-1.amazonaws.com/1/other")
    monkeypatch.setenv("RESULT_BACKEND", "redis://localhost:1/0")
    monkeypatch.setenv("PYTHONPATH", str(project.path / "src"))
    project.makepyfile("from shop import greet\ndef test_first(twolane): greet.delay()")
    result = run(project)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*test_first uses 'greet' of shop, which was imported when*"])


def test_it_imports_nothing_for_those_who_do_not_use_it(tmp_path: Path) -> None:
    (tmp_path / "test_none.py").write_text("def test_one(): pass\n")
    script = """
import sys, pytest
assert pytest.main(["-q", "-p", "no:cacheprovider", "--rootdir", ".", "-c", "/dev/null", "."]) == 0
loaded = {name.partition(".")[0] for name in sys.modules}
found = {n for n in sys.modules if n.startswith("twolane_local.")} - {"twolane_local.pytest_plugin"}
assert "twolane_local.pytest_plugin" in sys.modules
assert not found, found
heavy = loaded & {"celery", "kombu", "moto", "boto3", "fastapi", "time_machine", "fakeredis"}
print("heavy:", sorted(heavy))
"""
    environ = {
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        "PYTEST_PLUGINS": "twolane_local.pytest_plugin",
    }
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environ, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "heavy: []" in done.stdout


@pytest.mark.slow
def test_a_failing_test_on_real_parts_shows_its_journal(project: pytest.Pytester) -> None:
    project.makepyfile(
        """
        import pytest

        @pytest.mark.twolane(parameters={"Greeting": "good day"})
        def test_live(twolane_live):
            twolane_live.client.get("/any")
            assert False
        """
    )
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*- twolane journal -*", "*GET /any*"])
