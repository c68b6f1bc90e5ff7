"""What an application needs to run here, written from a survey of it; and a small new project.

Nothing of the application changes: the handler modules set what differs on AWS, broker and result
store, before they hand it over. Take the files away, and it runs as before.
"""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from twolane_local.checks.survey import Application, SurveyError, pytest_configuration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from twolane_local.checks.survey import Survey, Variable

#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
RUNTIMES = ("3.11", "3.12", "3.13", "3.14")
#: Lambda's longest: https://docs.aws.amazon.com/lambda/latest/dg/configuration-timeout.html
_LONGEST_S = 900
_API_TIMEOUT_S = 30
#: Between a task's time limit and the end of its function.
_MARGIN_S = 10
_DEFAULT_QUEUE_VARIABLE = "TASK_QUEUE_URL"


@dataclass(frozen=True)
class Plan:
    """The files by their paths in the project, and what its owner should know."""

    files: Mapping[str, str]
    notes: tuple[str, ...] = ()
    api: Application | None = None
    celery: Application | None = None


@dataclass(frozen=True)
class _Queue:
    name: str
    logical_id: str
    variable: str
    batch: int = 10

    @property
    def dead(self) -> str:
        return f"{self.logical_id}Dead"


def plan(
    folder: Path,
    found: Survey,
    probed: Mapping[str, Any],
    *,
    api: str = "",
    celery: str = "",
) -> Plan:
    """Return the files for an application. ``api`` and ``celery`` choose among several, as
    ``MODULE:NAME``. Raises ``SurveyError`` where there is nothing to run.
    """
    if found.handlers:
        return Plan(
            {}, (f"it has handlers already ({', '.join(found.handlers)}); nothing to write",)
        )
    applications = [Application(**each) for each in probed["applications"]]
    notes = [f"{problem}" for problem in probed["problems"]]
    web = _chosen([e for e in applications if e.kind != "Celery"], api, _rank_web, notes)
    worker = _chosen([e for e in applications if e.kind == "Celery"], celery, _rank_celery, notes)
    if web is None and worker is None:
        raise SurveyError(_nothing(folder, found, probed["problems"]))
    facts = worker.facts if worker is not None else {}
    timeout = _timeout(facts)
    queues = _queues(facts, timeout)
    beat = bool(facts.get("beat") or facts.get("django_beat"))
    files: dict[str, str] = {}
    if worker is not None:
        missing = probed["missing"].get(worker.root, ())
        for root in {worker.root, *([web.root] if web is not None else [])}:
            files[_path(root, "lambda_settings.py")] = _settings(queues)
        files[_path(worker.root, "lambda_worker.py")] = _worker(worker, missing, "WorkerHandler")
        if beat:
            files[_path(worker.root, "lambda_beat.py")] = _worker(worker, (), "BeatHandler")
        notes += _celery_notes(facts)
    if web is not None:
        same = worker if worker is not None and worker.root == web.root else None
        files[_path(web.root, "lambda_api.py")] = _api(web, same)
        if worker is not None and same is None:
            notes.append(
                f"{web.module} and {worker.module} are imported from two folders ({web.root}, "
                f"{worker.root}): call configure() of lambda_settings with the Celery application "
                "that the API publishes with"
            )
    needed = _needed(found.variables)
    files["template.yaml"] = _template(
        found, web, worker, queues, needed, beat=beat, timeout=timeout
    )
    tests = "tests/" if (folder / "tests").is_dir() or not (folder / "test").is_dir() else "test/"
    files[f"{tests}test_twolane.py"] = _test(web, worker)
    notes += _project_notes(folder, found, web or worker, needed)
    return Plan(files, tuple(notes), web, worker)


def _path(root: str, name: str) -> str:
    return name if root == "." else f"{root}/{name}"


def _chosen(
    found: list[Application], wanted: str, rank: Any, notes: list[str]
) -> Application | None:
    if wanted:
        for each in found:
            if wanted in (f"{each.module}:{each.name}", f"{each.module}.{each.name}"):
                return each
        names = ", ".join(f"{each.module}:{each.name}" for each in found) or "none"
        raise SurveyError(f"there is no application {wanted}; found: {names}")
    if not found:
        return None
    first, *others = sorted(found, key=rank, reverse=True)
    others = [each for each in others if not each.factory]
    if others:
        names = ", ".join(f"{each.module}:{each.name}" for each in others)
        flag = "--celery" if first.kind == "Celery" else "--api"
        notes.append(
            f"of several applications {first.module}:{first.name} is taken, not {names}; "
            f"{flag} MODULE:NAME takes another"
        )
    return first


def _rank_web(each: Application) -> tuple[bool, bool, int, int]:
    asgi = "asgi" in each.module
    return not each.factory, asgi, each.facts.get("routes", 0), -each.module.count(".")


def _rank_celery(each: Application) -> tuple[int, bool, int]:
    return len(each.facts.get("tasks", ())), not each.factory, -each.module.count(".")


def _nothing(folder: Path, found: Survey, problems: Sequence[str]) -> str:
    if problems:
        shown = "; ".join(problems)
        needed = [each.name for each in found.variables if each.default is None]
        remedy = "install what it needs into this environment"
        if needed:
            remedy += f", and give the variables that it must have ({', '.join(needed)}) in .env"
        return f"{shown}: {remedy}, then run it again"
    if found.empty:
        return f"{folder} holds no FastAPI, Starlette, Flask, Django or Celery application"
    return (
        f"{folder} holds no application that a module keeps under a name "
        "(app = FastAPI(), celery = Celery(…)); assign it to one"
    )


# The handler modules.


def _settings(queues: Sequence[_Queue]) -> str:
    urls = "".join(
        f'            {each.name!r}: {{"url": os.environ[{each.variable!r}]}},\n' for each in queues
    ).replace("'", '"')
    return f'''"""The settings of Celery that differ on AWS: broker and result store."""

import os


def configure(celery):
    """Set them where the template has named the queues; elsewhere all is as before."""
    if "{_DEFAULT_QUEUE_VARIABLE}" not in os.environ:
        return
    celery.conf.update(
        broker_url="sqs://",
        broker_read_url=None,
        broker_write_url=None,
        broker_transport_options={{
            "region": os.environ["AWS_REGION"],
            "predefined_queues": {{
{_indented(urls, 4)}            }},
            "sqs_base64_encoding": False,
        }},
        task_default_queue="{queues[0].name}",
        task_serializer="json",
        result_serializer="json",
        accept_content=["json"],
        result_backend=os.environ["CELERY_RESULT_BACKEND"],
        result_extended=True,
    )
'''


def _indented(text: str, by: int) -> str:
    return "".join(f"{' ' * by}{line}\n" for line in text.splitlines())


def _object(application: Application) -> tuple[str, str]:
    """The import of an application, and the expression for it."""
    call = "()" if application.factory else ""
    return f"from {application.module} import {application.name}", f"{application.name}{call}"


def _worker(application: Application, missing: Iterable[str], adapter: str) -> str:
    import_, value = _object(application)
    tasks = "".join(f"import {each}  # noqa: F401 - it defines tasks\n" for each in missing)
    lines = sorted([import_, "from lambda_settings import configure",
                    f"from twolane import {adapter}"])  # fmt: skip
    name = value
    before = ""
    if application.factory:
        name, before = "celery", f"celery = {value}\n"
    return (
        f"{tasks}{chr(10).join(lines)}\n\n{before}configure({name})\nhandler = {adapter}({name})\n"
    )


def _api(application: Application, celery: Application | None) -> str:
    import_, value = _object(application)
    options = ', lifespan="off"' if application.kind == "Django" else ""
    lines = [import_, "from twolane import ApiHandler"]
    configured = ""
    if celery is not None:
        name = celery.name
        if celery.module == application.module and not celery.factory:
            lines[0] = f"from {application.module} import {application.name}, {name}"
        elif celery.factory:
            celery = None
        else:
            alias = f"celery_{name}" if name == application.name else ""
            lines.append(_object(celery)[0] + (f" as {alias}" if alias else ""))
            name = alias or name
        if celery is not None:
            lines.append("from lambda_settings import configure")
            configured = f"configure({name})\n"
    return "\n".join(sorted(lines)) + f"\n\n{configured}handler = ApiHandler({value}{options})\n"


# The template.


def _timeout(facts: Mapping[str, Any]) -> int:
    """Of the worker's function: enough for the longest task."""
    limit = max(facts.get("time_limits", {}).values(), default=0.0)
    return int(min(_LONGEST_S, max(_API_TIMEOUT_S, limit + _MARGIN_S)))


def _queues(facts: Mapping[str, Any], timeout: int) -> list[_Queue]:
    made: list[_Queue] = []
    for name in facts.get("queues", ()):
        logical = _camel(name.removesuffix(".fifo")) + "Queue"
        first = name == facts["default_queue"]
        plain = re.sub(r"[^A-Za-z0-9]", "_", name).upper()
        variable = _DEFAULT_QUEUE_VARIABLE if first else f"{plain}_QUEUE_URL"
        # One after the other, they must end before the function does.
        limit = facts["time_limits"].get(name) or 0
        batch = max(1, min(10, int(timeout / limit))) if limit else 10
        made.append(_Queue(name, logical, variable, batch))
    return made


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in re.split(r"[^A-Za-z0-9]+", name))


def _needed(variables: Iterable[Variable]) -> list[str]:
    """The variables that the application must have, but for what Lambda and the template set."""
    names = [each.name for each in variables if each.default is None]
    return [
        name
        for name in names
        if not name.startswith(("AWS_", "_", "LAMBDA_"))
        and name not in (_DEFAULT_QUEUE_VARIABLE, "CELERY_RESULT_BACKEND", "DJANGO_SETTINGS_MODULE")
    ]


def _template(
    found: Survey,
    web: Application | None,
    worker: Application | None,
    queues: Sequence[_Queue],
    needed: Sequence[str],
    *,
    beat: bool,
    timeout: int,
) -> str:
    out = ['AWSTemplateFormatVersion: "2010-09-09"', "Transform: AWS::Serverless-2016-10-31", ""]
    if needed:
        out.append("Parameters: # twolane takes values from .env: of DATABASE_URL for DatabaseUrl")
        out += [f"  {_parameter(name)}: {{Type: String}}" for name in needed]
        out.append("")
    out += [
        "Globals:",
        "  Function:",
        f"    Runtime: python{_runtime(found)}",
        "    MemorySize: 1024",
        f"    Timeout: {_API_TIMEOUT_S}",
    ]
    variables = [f"{each.variable}: !Ref {each.logical_id}" for each in queues]
    if worker is not None:
        store = "dynamodb://@${AWS::Region}/${Results}?ttl_seconds=86400"
        variables.append(f"CELERY_RESULT_BACKEND: !Sub {store}")
    if found.django:
        variables.append(f"DJANGO_SETTINGS_MODULE: {found.django}")
    variables += [f"{name}: !Ref {_parameter(name)}" for name in needed]
    if variables:
        out += ["    Environment:", "      Variables:", *(f"        {each}" for each in variables)]
    out += ["", "Resources:"]
    if web is not None:
        policies = _policies(queues) if worker is not None else []
        out += _function("Api", web.root, "lambda_api.handler", policies)
        out += ["      Events:", "        Any: {Type: HttpApi}", ""]
    if worker is not None:
        out += _deferred_lane(worker, queues, beat=beat, timeout=timeout)
    if web is not None:
        address = "https://${ServerlessHttpApi}.execute-api.${AWS::Region}.amazonaws.com"
        out += ["Outputs:", "  ApiUrl:", f"    Value: !Sub {address}", ""]
    return "\n".join(out)


def _parameter(variable: str) -> str:
    return _camel(variable.lower())


def _deferred_lane(
    worker: Application, queues: Sequence[_Queue], *, beat: bool, timeout: int
) -> list[str]:
    policies = _policies(queues)
    out = _function("Worker", worker.root, "lambda_worker.handler", policies, timeout)
    out += ["      RecursiveLoop: Allow # Celery's retries and chains come back to it",
            "      Events:"]  # fmt: skip
    for each in queues:
        out += [
            f"        {each.logical_id}:",
            "          Type: SQS",
            "          Properties:",
            f"            Queue: !GetAtt {each.logical_id}.Arn",
            f"            BatchSize: {each.batch}",
            "            FunctionResponseTypes: [ReportBatchItemFailures]",
        ]
    out.append("")
    if beat:
        out += _function("Beat", worker.root, "lambda_beat.handler", policies)
        out += [
            "      Events:",
            "        Tick:",
            "          Type: ScheduleV2",
            "          Properties:",
            "            Name: !Sub ${AWS::StackName}-tick",
            "            ScheduleExpression: cron(* * * * ? *)",
            "",
        ]
    for each in queues:
        out += _queue(each, timeout)
    return [
        *out,
        "  Results:",
        "    Type: AWS::DynamoDB::Table",
        "    Properties:",
        "      BillingMode: PAY_PER_REQUEST",
        "      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]",
        "      KeySchema: [{AttributeName: id, KeyType: HASH}]",
        "      TimeToLiveSpecification: {AttributeName: ttl, Enabled: true}",
        "",
    ]


def _policies(queues: Sequence[_Queue]) -> list[str]:
    sends = [
        f"        - SQSSendMessagePolicy: {{QueueName: !GetAtt {each.logical_id}.QueueName}}"
        for each in queues
    ]
    return ["      Policies:", *sends, "        - DynamoDBCrudPolicy: {TableName: !Ref Results}"]


def _function(
    name: str, root: str, handler: str, policies: Sequence[str], timeout: int = _API_TIMEOUT_S
) -> list[str]:
    code = "." if root == "." else f"{root}/"
    longer = [f"      Timeout: {timeout}"] if timeout != _API_TIMEOUT_S else []
    return [
        f"  {name}:",
        "    Type: AWS::Serverless::Function",
        "    Properties:",
        f"      CodeUri: {code}",
        f"      Handler: {handler}",
        *longer,
        *policies,
    ]


def _queue(queue: _Queue, timeout: int) -> list[str]:
    fifo = queue.name.endswith(".fifo")
    named = ["      FifoQueue: true"] if fifo else []
    dead = ["      FifoQueue: true"] if fifo else []
    return [
        f"  {queue.logical_id}: # Celery's {queue.name}",
        "    Type: AWS::SQS::Queue",
        "    Properties:",
        *named,
        # https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-configure.html
        f"      VisibilityTimeout: {6 * timeout}",
        "      RedrivePolicy:",
        f"        {{deadLetterTargetArn: !GetAtt {queue.dead}.Arn, maxReceiveCount: 5}}",
        "",
        f"  {queue.dead}:",
        "    Type: AWS::SQS::Queue",
        "    Properties:",
        *dead,
        "      MessageRetentionPeriod: 1209600",
        "",
    ]


def _runtime(found: Survey) -> str:
    running = f"3.{sys.version_info.minor}"
    exact = found.python and found.python_where != "pyproject.toml"
    wanted = found.python if exact else running
    return wanted if wanted in RUNTIMES else running


# The first test, and what its owner should know.


def _test(web: Application | None, worker: Application | None) -> str:
    parts = [
        '"""The application behind its handlers, in one process and in virtual time."""\n',
    ]
    if web is not None:
        path = web.facts.get("openapi_url")
        if path:
            parts.append(
                "\n\ndef test_the_api_answers(twolane):\n"
                f'    assert twolane.client.get("{path}").status_code == 200\n'
            )
        else:
            parts.append(
                "\n\ndef test_the_api_answers(twolane):\n"
                '    assert twolane.client.get("/").status_code < 500\n'
            )
    if worker is not None:
        import_, value = _object(worker)
        tasks = sorted(worker.facts.get("tasks", ()))[:3]
        known = "".join(f"    assert {name!r} in celery.tasks\n" for name in tasks)
        known = known.replace("'", '"')
        import_ = import_ if value == "celery" else f"{import_} as celery"
        if worker.factory:
            import_ = "from lambda_worker import celery"
        parts.append(
            "\n\ndef test_the_worker_runs_tasks(twolane):\n"
            f"    {import_}\n\n{known}"
            '    celery.send_task("celery.accumulate", (1, 2))  # in place of one of yours\n'
            "    assert twolane.deferred.run() == 1\n"
            '    assert twolane.tasks["celery.accumulate"].state == "SUCCESS"\n'
        )
    return "".join(parts)


def _celery_notes(facts: Mapping[str, Any]) -> list[str]:
    notes = []
    if set(facts.get("accept", ())) - {"json", "application/json"} or facts["serializer"] != "json":
        notes.append(
            f"the application's serializer is {facts['serializer']} (accept_content "
            f"{', '.join(facts['accept'])}); lambda_settings.py sets JSON, since nothing else is "
            "read here: arguments that JSON cannot say have to change"
        )
    longest = max(facts.get("time_limits", {}).values(), default=0)
    if longest + _MARGIN_S > _LONGEST_S:
        notes.append(
            f"a task may run for {longest:g} s, and a function for {_LONGEST_S} s: "
            "keep a stock worker for it, on a queue of its own"
        )
    if facts.get("eager"):
        notes.append(
            "task_always_eager is set here: tasks run where they are sent, and no queue is used; "
            "unset it where the functions run"
        )
    backend = facts.get("backend", "")
    if backend and not backend.startswith(("redis", "dynamodb", "disabled", "cache+memory")):
        notes.append(
            f"the result backend {backend.partition(':')[0]}:… is replaced by a DynamoDB table in "
            "lambda_settings.py"
        )
    return notes


def _project_notes(
    folder: Path, found: Survey, first: Application | None, needed: Sequence[str]
) -> list[str]:
    notes = []
    root = folder / (first.root if first is not None else ".")
    if not (root / "requirements.txt").is_file():
        lock = next((e for e in found.packages if e.endswith(".lock")), "")
        export = {
            "uv.lock": "uv export --no-dev --no-hashes --no-emit-project -o",
            "poetry.lock": "poetry export --without-hashes -o",
            "pdm.lock": "pdm export --prod --without-hashes -o",
        }.get(lock, "")
        target = "requirements.txt" if first is None else _path(first.root, "requirements.txt")
        how = f"`{export} {target}` writes it" if export else "list what the application imports"
        notes.append(f"`sam build` reads {target}, which is not there: {how}; add twolane to it")
    else:
        notes.append("add twolane to requirements.txt, which `sam build` reads")
    if needed:
        notes.append(
            "the template has a parameter for each variable that must be set, with the value in "
            f".env: {', '.join(needed)}"
        )
    named = pytest_configuration(folder)
    where = named or "pytest.ini, below [pytest]"
    notes.append(
        f"tests that import the application when they are collected need twolane_template = "
        f"template.yaml in pytest's configuration ({where})"
    )
    return notes


# A new project: that of docs/getting-started.md.

NEW: dict[str, str] = {}
NEW["code/tasks.py"] = """\
import os

from celery import Celery

celery = Celery("hello")
celery.conf.update(
    task_serializer="json",
    accept_content=["json"],
    result_backend=os.environ.get("CELERY_RESULT_BACKEND", "redis://localhost:6379/0"),
    result_extended=True,
    beat_schedule={"hourly": {"task": "tasks.sweep", "schedule": 3600.0}},
)
if queue_url := os.environ.get("TASK_QUEUE_URL"):
    celery.conf.update(
        broker_url="sqs://",
        broker_transport_options={
            "region": os.environ["AWS_REGION"],
            "predefined_queues": {"tasks": {"url": queue_url}},
            "sqs_base64_encoding": False,
        },
        task_default_queue="tasks",
    )
else:
    celery.conf.broker_url = "redis://localhost:6379/0"


@celery.task(autoretry_for=(ConnectionError,), retry_backoff=True, max_retries=5)
def greet(name):
    print(f"Hello, {name}")
    return len(name)


@celery.task
def sweep():
    print("Swept")
"""
NEW["code/api.py"] = """\
from fastapi import BackgroundTasks, FastAPI
from tasks import celery, greet
from twolane import ApiHandler, tasks_router

app = FastAPI()
app.include_router(tasks_router(celery))  # GET and DELETE /tasks/{id}


@app.post("/quick/{name}")
def quick(name: str, background_tasks: BackgroundTasks):
    background_tasks.add_task(greet, name)  # the inline lane: after the response, once
    return {"greeting": "on its way"}


@app.post("/thorough/{name}", status_code=202)
def thorough(name: str):
    return {"id": greet.delay(name).id}  # the deferred lane: queued, retried


handler = ApiHandler(app)
"""
NEW["code/worker.py"] = """\
from tasks import celery
from twolane import WorkerHandler

handler = WorkerHandler(celery)
"""
NEW["code/beat.py"] = """\
from tasks import celery
from twolane import BeatHandler

handler = BeatHandler(celery)
"""
NEW["template.yaml"] = """\
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31

Globals:
  Function:
    Runtime: python3.13
    CodeUri: code/
    MemorySize: 1024
    Timeout: 30
    Environment:
      Variables:
        TASK_QUEUE_URL: !Ref Tasks
        CELERY_RESULT_BACKEND: !Sub dynamodb://@${AWS::Region}/${Results}?ttl_seconds=86400

Resources:
  Api:
    Type: AWS::Serverless::Function
    Properties:
      Handler: api.handler
      Policies:
        - SQSSendMessagePolicy: {QueueName: !GetAtt Tasks.QueueName}
        - DynamoDBCrudPolicy: {TableName: !Ref Results}
      Events:
        Any: {Type: HttpApi}

  Worker:
    Type: AWS::Serverless::Function
    Properties:
      Handler: worker.handler
      RecursiveLoop: Allow # Celery's retries and chains come back to it: docs/operating.md
      Policies:
        - SQSSendMessagePolicy: {QueueName: !GetAtt Tasks.QueueName}
        - DynamoDBCrudPolicy: {TableName: !Ref Results}
      Events:
        Tasks:
          Type: SQS
          Properties:
            Queue: !GetAtt Tasks.Arn
            FunctionResponseTypes: [ReportBatchItemFailures]

  Beat:
    Type: AWS::Serverless::Function
    Properties:
      Handler: beat.handler
      Policies:
        - SQSSendMessagePolicy: {QueueName: !GetAtt Tasks.QueueName}
        - DynamoDBCrudPolicy: {TableName: !Ref Results}
      Events:
        Tick:
          Type: ScheduleV2
          Properties:
            Name: !Sub ${AWS::StackName}-tick
            ScheduleExpression: cron(* * * * ? *)

  Tasks:
    Type: AWS::SQS::Queue
    Properties:
      VisibilityTimeout: 180
      RedrivePolicy: {deadLetterTargetArn: !GetAtt Dead.Arn, maxReceiveCount: 5}

  Dead:
    Type: AWS::SQS::Queue
    Properties:
      MessageRetentionPeriod: 1209600

  Results:
    Type: AWS::DynamoDB::Table
    Properties:
      BillingMode: PAY_PER_REQUEST
      AttributeDefinitions: [{AttributeName: id, AttributeType: S}]
      KeySchema: [{AttributeName: id, KeyType: HASH}]
      TimeToLiveSpecification: {AttributeName: ttl, Enabled: true}
"""
NEW["code/requirements.txt"] = """\
twolane
"""
NEW["tests/test_hello.py"] = """\
def test_a_greeting_is_queued_and_said(twolane):
    answer = twolane.client.post("/thorough/Grace")
    assert answer.status_code == 202
    assert [task.name for task in twolane.queue("Tasks").tasks] == ["tasks.greet"]

    twolane.deferred.run()

    assert twolane.tasks[answer.json()["id"]].state == "SUCCESS"


def test_quick_work_runs_after_the_response(twolane):
    assert twolane.client.post("/quick/Ada").json() == {"greeting": "on its way"}
    assert len(twolane.queue("Tasks")) == 0
"""
