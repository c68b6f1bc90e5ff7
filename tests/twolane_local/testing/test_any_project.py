"""The plugin in projects of other shapes, each in a pytest of its own, as its users start it."""

from __future__ import annotations

import re

import pytest
from tests.twolane_local.testing.sessions import CONFIGURED, GREETS, Sessions

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
    assert "test_uses_a_helper uses 'greet' of shop." in output
    assert "set twolane_template in pytest's configuration" in output


@pytest.mark.slow
def test_a_conftest_that_imports_the_application_with_its_environment(sessions: Sessions) -> None:
    """It is there before any conftest is loaded, in xdist's workers, too."""
    sessions.application("src")
    configured = CONFIGURED + "testpaths = tests\npythonpath = src\n"
    sessions.write({"tests/conftest.py": OVERRIDES, "tests/test_uses.py": USES})
    sessions.write({"pytest.ini": configured})
    sessions.run(passed=4)
    sessions.run("-n", "2", plugins=("xdist",), passed=4)


def test_a_template_that_cannot_be_read_is_said_in_one_line(sessions: Sessions) -> None:
    sessions.write({"pytest.ini": "[pytest]\ntwolane_template = nowhere.yaml\n",
                    "test_none.py": "def test_none(): pass\n"})  # fmt: skip
    output = sessions.run()
    assert re.search(r"^ERROR: twolane_template: .*nowhere.yaml is not there", output, re.MULTILINE)
    assert "Traceback" not in output
