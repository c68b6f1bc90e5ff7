"""Settings of Celery that leave the queue empty: real projects, imported as lint does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from twolane_local.checks.lint import Severity, lint

if TYPE_CHECKING:
    from twolane_local.checks.lint import Finding

    from ..conftest import Project  # noqa: TID252

TASKS = "code/shop/tasks.py"
DEFAULT = 'task_default_queue="tasks",'
VARIABLE = "        TASK_QUEUE_URL: !Ref Tasks\n"
API = """  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: shop.api.handler
      Events:
        Any: {Type: HttpApi}
  Beat:
"""


def found(project: Project) -> list[Finding]:
    return [one for one in lint(project.template, {}) if one.rule.id.startswith("TL20")]


@pytest.mark.parametrize(
    ("old", "new", "rule", "said"),
    [
        ('broker="sqs://"', 'broker="redis://:secret@cache:6379/0"', "TL204", "redis://:**@cache"),
        ('broker="sqs://", ', "", "TL204", "amqp://guest@localhost//, Celery's default"),
        (DEFAULT, f'{DEFAULT} broker_write_url="amqp://b",', "TL204", "amqp://b"),
        (DEFAULT, f"{DEFAULT} task_always_eager=True,", "TL205", "task_always_eager"),
        (DEFAULT, f'{DEFAULT} task_serializer="pickle",', "TL206", "task_serializer='pickle'"),
        (DEFAULT, f'{DEFAULT} accept_content=["yaml"],', "TL206", "yaml in accept_content"),
        ("time_limit=5", 'time_limit=5, serializer="msgpack"', "TL206", "serializer='msgpack'"),
        ('backend="cache+memory://"', 'backend="rpc://"', "TL207", "rpc://"),
    ],
)  # fmt: skip
def test_a_setting_of_the_application(
    project: Project, old: str, new: str, rule: str, said: str
) -> None:
    project.write_code()
    project.change(old, new, file=TASKS)
    (finding,) = found(project)
    assert (finding.rule.id, finding.resource) == (rule, "Worker")
    assert said in finding.message
    assert "secret" not in finding.message


def test_a_variable_of_the_template_goes_before_the_application(project: Project) -> None:
    project.write_code()
    project.change(VARIABLE, f"{VARIABLE}        CELERY_BROKER_URL: redis://cache:6379/0\n")
    (finding,) = found(project)
    assert finding.rule.id == "TL204"
    assert finding.severity is Severity.ERROR
    assert "Worker reads Tasks, but" in finding.message
    assert "by the variable CELERY_BROKER_URL" in finding.message
    assert "(the variable TASK_QUEUE_URL has a queue's URL)" in finding.fix


def test_an_api_that_lacks_the_variable_of_its_worker(project: Project) -> None:
    """The worker is right, and what the API sends never comes to it."""
    project.write_code()
    project.change("  Beat:\n", API)
    project.change(
        'broker="sqs://"', 'broker=os.environ.get("BROKER", "redis://localhost")', file=TASKS
    )
    (project.folder / "code" / "shop" / "api.py").write_text(
        "from shop.tasks import celery\nfrom twolane import ApiHandler\n"
        "handler = ApiHandler(None)\n"
    )
    project.change(VARIABLE, f"{VARIABLE}        BROKER: sqs://\n")
    assert found(project) == []
    project.change(
        "      Handler: shop.api.handler\n",
        "      Handler: shop.api.handler\n      Environment: {Variables: {BROKER: ''}}\n",
    )
    (finding,) = found(project)
    assert (finding.rule.id, finding.resource) == ("TL204", "Api")


def test_an_api_that_does_not_import_here_is_a_note(project: Project) -> None:
    project.write_code()
    project.change("  Beat:\n", API)
    (project.folder / "code" / "shop" / "api.py").write_text(
        "from twolane import ApiHandler\nraise ConnectionError('no database here')\n"
    )
    (finding,) = found(project)
    assert finding.severity is Severity.NOTE
    assert "no database here" in finding.message


def test_a_template_without_a_queue_may_have_any_broker(project: Project) -> None:
    project.write_code()
    project.change('broker="sqs://"', 'broker="redis://cache:6379/0"', file=TASKS)
    start, _, rest = project.template.read_text().partition("      Events:\n        Tasks:\n")
    project.template.write_text(start + rest.partition("[ReportBatchItemFailures]\n")[2])
    assert "TL204" not in {one.rule.id for one in lint(project.template, {})}


def test_coroutine_tasks_want_twolane_imported(project: Project) -> None:
    project.write_code()
    project.change("def sweep():", "async def sweep():", file=TASKS)
    (finding,) = found(project)
    assert (finding.rule.id, finding.severity) == ("TL208", Severity.NOTE)
    assert "shop.tasks.sweep" in finding.message
    project.change("import os", "import os\nimport twolane", file=TASKS)
    assert found(project) == []
