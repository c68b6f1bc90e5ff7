"""The plugin in projects of other shapes, each in a pytest of its own, as its users start it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TEMPLATE = """
Transform: AWS::Serverless-2016-10-31
Parameters:
  RedisUrl: {Type: String, Default: ""}
Globals:
  Function:
    CodeUri: CODE_URI
    Runtime: python3.13
    Timeout: 30
    Environment:
      Variables:
        TASK_QUEUE_URL: !Ref Tasks
        RESULT_BACKEND: !Ref RedisUrl
        GREETING: hello
Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: PACKAGE.functions.api
      Events: {All: {Type: HttpApi}}
  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: PACKAGE.functions.worker
      Events:
        Queue:
          Type: SQS
          Properties: {Queue: !GetAtt Tasks.Arn, FunctionResponseTypes: [ReportBatchItemFailures]}
  Tasks:
    Type: AWS::SQS::Queue
    Properties: {RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 3}}
  Dead: {Type: AWS::SQS::Queue}
"""
#: Runs with and without the template's variables, as an application does that moved here.
TASKS = """
import os
from celery import Celery

celery = Celery("shop", set_as_current=False)
celery.conf.update(
    task_default_queue="tasks", result_backend=os.environ.get("RESULT_BACKEND", "cache+memory://"),
    accept_content=["json"], broker_url="memory://",
)
if queue := os.environ.get("TASK_QUEUE_URL"):
    celery.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": "us-east-1",
            "predefined_queues": {"tasks": {"url": queue}},
            "sqs_base64_encoding": False,
        },
    )
GREETING = os.environ.get("GREETING", "nothing")

@celery.task(name="shop.greet")
def greet(name):
    return f"{os.environ.get('GREETING', 'nothing')} {name}"
"""
API = """
import os
from fastapi import Depends, FastAPI
from PACKAGE.tasks import GREETING, greet

app = FastAPI()

def suffix():
    return "!"

@app.post("/greetings/{name}")
def publish(name: str):
    return {"id": greet.delay(name).id}

@app.get("/greeting")
async def greeting(end: str = Depends(suffix)):
    return {"text": GREETING + end, "now": os.environ.get("GREETING")}
"""
FUNCTIONS = """
from twolane import ApiHandler, WorkerHandler
from PACKAGE.api import app
from PACKAGE.tasks import celery

api = ApiHandler(app)
worker = WorkerHandler(celery)
"""
GREETS = """
def test_greets(twolane):
    identity = twolane.client.post("/greetings/ann").json()["id"]
    assert twolane.deferred.run() == 1
    assert twolane.tasks[identity].state == "SUCCESS"
    from PACKAGE.tasks import greet
    assert greet.AsyncResult(identity).result == "hello ann"
    assert twolane.client.get("/greeting").json() == {"text": "hello!", "now": "hello"}
"""
CONFIGURED = "[pytest]\ntwolane_template = template.yaml\n"


class Sessions:
    """Projects in a folder, and sessions of pytest in them."""

    def __init__(self, folder: Path, cache: Path) -> None:
        self.folder = folder
        self._cache = cache

    def write(self, files: Mapping[str, str], package: str = "shop") -> None:
        for name, text in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.replace("PACKAGE", package))

    def application(
        self, code: str = ".", *, package: str = "shop", template: str = "template.yaml",
        code_uri: str | None = None, init: bool = True,
    ) -> None:  # fmt: skip
        """Write an application with its package in the folder ``code``, and its template."""
        home = f"{code}/{package.replace('.', '/')}"
        files = {"tasks": TASKS, "api": API, "functions": FUNCTIONS}
        self.write({f"{home}/{name}.py": text for name, text in files.items()}, package)
        if init:
            self.write({f"{home}/__init__.py": ""})
        self.write({template: TEMPLATE.replace("CODE_URI", code_uri or code)}, package)

    def run(
        self, *options: str, plugins: tuple[str, ...] = (), folder: str = ".",
        environ: Mapping[str, str] | None = None, **outcomes: int,
    ) -> str:  # fmt: skip
        """Run pytest there, with the plugins of these names beside twolane's, and compare."""
        given = [each for name in ("twolane", *plugins) for each in ("-p", name)]
        strict = [] if "-W" in options else ["-W", "error"]
        done = subprocess.run(
            [Path(sys.executable).with_name("pytest"), *given, *strict, *options],
            cwd=self.folder / folder,
            env={
                **{k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHON"))},
                "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                "PYTHONDONTWRITEBYTECODE": "1",
                "XDG_CACHE_HOME": str(self._cache),
                **(environ or {}),
            },
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        output = done.stdout + done.stderr
        summary = output.rstrip().rpartition("\n")[2]
        found = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", summary)}
        counted = {word: found.get(word, 0) for word in ("passed", "failed", "error", "errors")}
        wanted = {"passed": 0, "failed": 0, "error": 0, "errors": 0, **outcomes}
        assert counted == wanted, output
        return output


@pytest.fixture
def sessions(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Sessions:
    # The expanded template is the same each time.
    return Sessions(tmp_path, tmp_path_factory.getbasetemp().parent / "twolane-cache")


# Where tests, packages and the template are.


@pytest.mark.parametrize(
    ("mode", "tests"),
    [
        ("prepend", ""),
        pytest.param("append", "tests/", marks=pytest.mark.slow),
        pytest.param("importlib", "checks/unit/", marks=pytest.mark.slow),
    ],
)
def test_tests_within_the_code(sessions: Sessions, mode: str, tests: str) -> None:
    """``CodeUri: .``, with a helper and a conftest that have nothing to do with the application."""
    sessions.application(".")
    sessions.write({
        f"{tests}conftest.py": "import pytest\n@pytest.fixture\ndef name(): return 'ann'\n",
        f"{tests}test_first.py": GREETS,
        f"{tests}test_second.py": GREETS
        + "\ndef test_own(twolane, name):\n"
        + "    import sys\n    assert sys.modules[__name__].test_own is test_own\n",
    })  # fmt: skip
    sessions.run(f"--import-mode={mode}", passed=3)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["prepend", "importlib"])
def test_tests_within_the_package(sessions: Sessions, mode: str) -> None:
    sessions.application(".")
    beside = GREETS + (
        "\nfrom .factories import NAMES\n"
        "def test_own(twolane, monkeypatch):\n"
        "    from shop.tests import factories\n"
        "    assert factories.NAMES is NAMES\n"
        "    monkeypatch.setattr('shop.tests.factories.NAMES', 1)\n"
    )
    sessions.write({
        "shop/tests/__init__.py": "", "shop/tests/test_first.py": beside,
        "shop/tests/factories.py": "NAMES = ['ann']\n",
        "shop/test_beside.py": GREETS,
    })  # fmt: skip
    sessions.run(f"--import-mode={mode}", passed=3)


OTHER_ENVIRONMENT = """
import pytest

@pytest.mark.twolane(parameters={"Greeting": "salve"})
def test_another_environment(twolane):
    import PACKAGE.tasks
    assert PACKAGE.tasks.GREETING == "salve"
    assert twolane.client.get("/greeting").json() == {"text": "salve!", "now": "salve"}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("code", "package"), [("src", "shop"), ("lib", "company.shop")])
def test_namespace_packages_of_two_environments(
    sessions: Sessions, code: str, package: str
) -> None:
    """Packages without an ``__init__``; the application lies beside its tests, not above them."""
    sessions.application(code, package=package, init=False)
    path = sessions.folder / "template.yaml"
    text = path.read_text().replace("GREETING: hello", "GREETING: !Ref Greeting")
    path.write_text(
        text.replace("Parameters:", "Parameters:\n  Greeting: {Type: String, Default: hello}")
    )
    for number in (1, 2):
        sessions.write({f"tests/test_greets{number}.py": GREETS}, package)
        sessions.write({f"tests/test_other{number}.py": OTHER_ENVIRONMENT}, package)
    sessions.run("tests/test_greets1.py", "tests/test_other1.py", "tests/test_greets2.py",
                 "tests/test_other2.py", passed=4)  # fmt: skip


ONE_OF_TWO = """
Transform: AWS::Serverless-2016-10-31
Globals: {Function: {Runtime: python3.13, Timeout: 30}}
Resources:
  Orders:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: orders/, Handler: main.handler, Events: {All: {Type: HttpApi}}}
  Stock:
    Type: AWS::Serverless::Function
    Properties: {CodeUri: stock/, Handler: main.handler}
"""
MAIN = """
import time
import helpers

def handler(event, context):
    before = helpers.NAME
    time.sleep(5)  # the other one runs meanwhile
    import late
    return {"statusCode": 200, "body": f"{before} {late.NAME}"}
"""


def test_modules_of_the_same_name_in_two_folders(sessions: Sessions) -> None:
    sessions.write({"template.yaml": ONE_OF_TWO})
    for name in ("orders", "stock"):
        sessions.write({
            f"{name}/main.py": MAIN, f"{name}/helpers.py": f"NAME = '{name}'\n",
            f"{name}/late.py": f"NAME = 'late {name}'\n", f"{name}/only_{name}.py": "IT = []\n",
        })  # fmt: skip
    sessions.write({"tests/test_both.py": """
import json

def test_both(twolane):
    stock = twolane.invoke("Stock", b'{"rawPath": "/"}')
    assert json.loads(stock.payload)["body"] == "stock late stock"
    assert twolane.client.get("/").text == "orders late orders"
    import helpers, only_stock
    assert helpers.NAME == "orders"  # to the test, those of the first function

def test_again(twolane):
    stock = twolane.invoke("Stock", b'{"rawPath": "/"}')
    assert json.loads(stock.payload)["body"] == "stock late stock"
"""})  # fmt: skip
    sessions.run(passed=2)


@pytest.mark.slow
def test_the_template_is_not_in_pytest_s_root(sessions: Sessions) -> None:
    """Each service of a repository has its own; or pytest's root is below the template's folder."""
    sessions.write({".git/HEAD": "", "pytest.ini": "[pytest]\n"})
    sessions.application("services/shop/src", template="services/shop/template.yaml",
                         code_uri="src/")  # fmt: skip
    sessions.write({"services/shop/tests/unit/test_first.py": GREETS})
    sessions.run(passed=1)
    (sessions.folder / "pytest.ini").unlink()
    sessions.write({"services/shop/tests/pytest.ini": "[pytest]\n"})
    sessions.run("tests", folder="services/shop", passed=1)
    # A name in the configuration is as pytest's own paths are, wherever the session's root is.
    sessions.write(
        {"services/shop/tests/pytest.ini": "[pytest]\ntwolane_template = ../template.yaml\n"}
    )
    options = ("-c", "services/shop/tests/pytest.ini", "--rootdir", ".", "services")
    sessions.run(*options, passed=1)


# What imports the application before the stack is there.

OVERRIDES = """
import pytest
from PACKAGE.api import app, suffix

@pytest.fixture
def question():
    app.dependency_overrides[suffix] = lambda: "?"
    yield
    app.dependency_overrides.clear()

@pytest.fixture
def unrelated():
    return "ann"
"""
USES = """
from PACKAGE.tasks import GREETING, greet
from time import sleep

def helper():
    return greet

def test_of_its_own():
    assert greet.run("ann").endswith(" ann")

def test_with_the_stack(twolane, unrelated):
    assert twolane.client.get("/greeting").json()["text"] == "hello!"
    sleep(0)

def test_overridden(question, twolane):
    assert twolane.client.get("/greeting").json()["text"] == "hello?"

def test_uses_a_helper(twolane):
    identity = helper().delay("eve").id
    assert twolane.deferred.run() == 1
"""


def test_a_conftest_that_imports_the_application(sessions: Sessions) -> None:
    sessions.application(".")
    sessions.write({"conftest.py": OVERRIDES, "test_uses.py": USES})
    output = sessions.run("--import-mode=prepend", passed=2, errors=2)
    assert "the fixture 'question' uses 'app' of shop.api, which was imported" in output
    assert "test_uses_a_helper uses 'greet' of shop.tasks, which was imported" in output
    assert "set twolane_template in pytest's configuration" in output


@pytest.mark.slow
def test_a_conftest_that_imports_the_application_with_its_environment(sessions: Sessions) -> None:
    """It is there before any conftest is loaded, in xdist's workers, too."""
    sessions.application("src")
    sessions.write({"tests/conftest.py": OVERRIDES, "tests/test_uses.py": USES,
                    "pytest.ini": CONFIGURED + "testpaths = tests\npythonpath = src\n"})  # fmt: skip
    sessions.run(passed=4)
    sessions.run("-n", "2", plugins=("xdist",), passed=4)


def test_a_template_that_cannot_be_read_is_said_in_one_line(sessions: Sessions) -> None:
    sessions.write({"pytest.ini": "[pytest]\ntwolane_template = nowhere.yaml\n",
                    "test_none.py": "def test_none(): pass\n"})  # fmt: skip
    output = sessions.run()
    assert re.search(r"^ERROR: twolane_template: .*nowhere.yaml is not there", output, re.MULTILINE)
    assert "Traceback" not in output
