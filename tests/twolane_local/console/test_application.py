from __future__ import annotations

import asyncio
import sys

import pytest

from twolane_local.console.application import Application, ApplicationError
from twolane_local.model import FunctionSpec

BROKEN = "raise RuntimeError('no settings')"
EMPTY = "handler = None"
TALKS = """
print("import talks")
from celery import Celery
app = Celery("app", broker="memory://")

@app.task(max_retries=7, acks_late=True)
def greet(name: str, *, times: int = 1):
    '''Say hello.'''

@app.task
def many(*numbers, **named): ...

handler = None
"""


@pytest.fixture
def ask(tmp_path):
    """Ask the application of these modules, which are tried in this order."""
    (tmp_path / "broken.py").write_text(BROKEN)
    (tmp_path / "empty.py").write_text(EMPTY)
    (tmp_path / "talks.py").write_text(TALKS)

    def ask(question, *modules):
        specs = [FunctionSpec(name, name, f"{name}.handler", tmp_path) for name in modules]

        async def main():
            application = Application(lambda: specs, lambda _: {"PYTHONPATH": str(tmp_path)})
            try:
                return await question(application)
            finally:
                await application.close()

        return asyncio.run(main())

    return ask


def test_tasks_with_their_signatures(ask):
    first, second = ask(lambda application: application.tasks(), "empty", "talks")
    assert (first["name"], first["doc"]) == ("talks.greet", "Say hello.")
    assert first["parameters"] == [
        {"name": "name", "kind": "positional_or_keyword", "required": True, "default": None,
         "annotation": "str"},
        {"name": "times", "kind": "keyword_only", "required": False, "default": 1,
         "annotation": "int"},
    ]  # fmt: skip
    assert first["options"]["maxRetries"] == 7
    assert first["options"]["acksLate"] is True
    assert [each["kind"] for each in second["parameters"]] == ["var_positional", "var_keyword"]
    assert not any(each["required"] for each in second["parameters"])


def test_a_task_is_published_by_the_application_itself(ask):
    async def publish(application):
        return await application.publish("talks.greet", args=["ada"], task_id="task-aaaa")

    assert ask(publish, "talks")["taskId"] == "task-aaaa"


def test_what_the_application_refuses_is_said(ask):
    async def publish(application):
        return await application.publish("talks.greet", args=[], kwargs={"nonsense": 1})

    with pytest.raises(ApplicationError, match="TypeError"):
        ask(publish, "talks")


def test_a_module_that_does_not_import_is_named(ask):
    with pytest.raises(ApplicationError, match="broken: RuntimeError: no settings"):
        ask(lambda application: application.tasks(), "broken", "empty")


def test_changed_code_is_taken_up(ask, tmp_path):
    async def twice(application):
        before = await application.tasks()
        (tmp_path / "talks.py").write_text(TALKS.replace("def greet", "def salute"))
        assert await application.tasks() == before, "asked once"
        await application.forget()
        return await application.tasks()

    # A file changed within a second of its compiled form is not compiled again.
    sys.dont_write_bytecode = True
    names = [each["name"] for each in ask(twice, "talks")]
    assert names == ["talks.many", "talks.salute"]
