"""What a test's stack is made from: a template, read once for the process, or bare handlers.

The application's environment can be put in place before the tests that import it are collected.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from twolane_local import template
from twolane_local.aws import guard
from twolane_local.model import (
    ACCOUNT,
    REGION,
    FunctionSpec,
    QueueMappingSpec,
    QueueSpec,
    RouteSpec,
    ScheduleSpec,
    Stack,
)
from twolane_local.template import stack
from twolane_local.testing import TestingError
from twolane_local.testing.mocked_aws import SQS_URL
from twolane_local.testing.stores import URL as STORE_URL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Key = tuple[tuple[Path, ...], tuple[tuple[str, str], ...]]


#: The template parameter that gets the embedded store's address, as the emulator gives it its own.
STORE_PARAMETER = "RedisUrl"
#: What Lambda sets for a function in a run. What is in none of these is the application's own.
_STACK_NAME = "local"


@dataclass(frozen=True)
class Project:
    """A stack, and the handlers of it that are objects already, by function name."""

    stack: Stack
    handlers: Mapping[str, Callable[[Any, Any], Any]] = field(default_factory=dict)

    @property
    def variables(self) -> dict[str, str]:
        """The functions' own environment variables together, and dummy credentials."""
        found: dict[str, str] = {}
        for function in self.stack.functions:
            found |= function.environment
        region = {"AWS_REGION": REGION, "AWS_DEFAULT_REGION": REGION}
        return {**found, **guard.DUMMY_CREDENTIALS, **region}

    def environment(self, function: FunctionSpec) -> dict[str, str]:
        """The variables of one function, as Lambda sets them but for what is the process's own."""
        found = guard.function_environment(function, endpoint_url="", environ={})
        for name in ("AWS_ENDPOINT_URL", "PYTHONPATH", "TZ", "LANG"):
            found.pop(name, None)
        return found

    @property
    def folders(self) -> tuple[Path, ...]:
        """Where the application's modules are."""
        found = {
            folder
            for function in self.stack.functions
            if function.name not in self.handlers and not function.unrunnable
            for folder in function.python_path
        }
        return tuple(sorted(found))


def of_template(path: Path, parameters: Mapping[str, str]) -> Project:
    """The project of a template; raises ``TemplateError`` as the emulator does."""
    path = path.resolve()
    if not path.is_file():
        raise TestingError(
            f"{path} is not there: name the template in pytest's configuration (twolane_template) "
            "or by @pytest.mark.twolane(template=…), or give handlers"
        )
    given = tuple(sorted((name, str(value)) for name, value in parameters.items()))
    return _read(path, path.stat().st_mtime_ns, given)


@lru_cache(maxsize=16)
def _read(path: Path, _: int, given: tuple[tuple[str, str], ...]) -> Project:
    parameters = dict(given)
    wanted = (
        STORE_PARAMETER in template.declared_parameters(path) and STORE_PARAMETER not in parameters
    )
    if wanted:
        parameters[STORE_PARAMETER] = STORE_URL
    expanded = template.load(path, parameters, stack_name=_STACK_NAME)
    facts = stack.BuildContext(
        SQS_URL, api_url, lambda name, attribute: f"{name}-{attribute or 'ref'}"
    )
    built, _notes = stack.build(expanded, facts)
    return Project(built)


def api_url(api: str) -> str:
    """Where an API of the stack is, as on AWS; only ``Twolane.client`` leads there."""
    return f"https://{api}.execute-api.{REGION}.amazonaws.com"


def queue_url(name: str) -> str:
    return f"{SQS_URL}/{ACCOUNT}/{name}"


def of_handlers(
    *,
    api: Any = None,
    worker: Any = None,
    beat: Any = None,
    queue: str = "tasks",
    environment: Mapping[str, str] | None = None,
    visibility_timeout_s: int = 360,
    max_receive_count: int = 5,
    timeout_s: float = 60.0,
    recursive_loop: str = "Terminate",
) -> Project:
    """A project without a template: ``api`` behind an HTTP API, ``worker`` behind the queue (dead
    letters on ``QUEUE-dead``), ``beat`` on a tick a minute; each a handler, or its name, imported
    with ``TASK_QUEUE_URL``, ``RESULT_BACKEND`` and ``environment``. ``recursive_loop="Allow"`` lets
    a chain of more than 16 tasks or tries run.
    """
    variables = {
        "TASK_QUEUE_URL": queue_url(queue),
        "RESULT_BACKEND": STORE_URL,
        **(environment or {}),
    }
    given = {"Api": api, "Worker": worker, "Beat": beat}
    specs = {
        name: FunctionSpec(
            name=name,
            logical_id=name,
            handler=handler if isinstance(handler, str) else f"{name.lower()}.handler",
            code_dir=Path.cwd(),
            timeout_s=timeout_s,
            memory_mb=1024,
            environment=variables,
            recursive_loop=recursive_loop,
        )
        for name, handler in given.items()
        if handler is not None
    }
    arn = f"arn:aws:sqs:{REGION}:{ACCOUNT}"
    redrive = (
        f'{{"deadLetterTargetArn": "{arn}:{queue}-dead", "maxReceiveCount": {max_receive_count}}}'
    )
    attributes = {"VisibilityTimeout": str(visibility_timeout_s), "RedrivePolicy": redrive}
    built = Stack(
        name=_STACK_NAME,
        functions=tuple(specs.values()),
        routes=(RouteSpec("Api", api_id="api"),) if "Api" in specs else (),
        queues=(QueueSpec(f"{queue}-dead"), QueueSpec(queue, attributes)),
        mappings=(
            QueueMappingSpec("Worker", f"{arn}:{queue}", report_batch_item_failures=True),
        ) if "Worker" in specs else (),
        schedules=(
            ScheduleSpec("Tick", "cron(* * * * ? *)", specs["Beat"].arn),
        ) if "Beat" in specs else (),
        moto_template={"Resources": {}},
    )  # fmt: skip
    objects = {name: handler for name, handler in given.items() if callable(handler)}
    return Project(built, objects)


def with_handlers(project: Project, handlers: Mapping[str, Any]) -> Project:
    """The project, with some of its functions' handlers given as objects."""
    unknown = sorted(handlers.keys() - {function.name for function in project.stack.functions})
    if unknown:
        raise TestingError(f"the stack has no function {unknown[0]!r}")
    return replace(project, handlers={**project.handlers, **handlers})


#: The environments that were put in place.
prepared: list[Key] = []


def key_of(project: Project) -> Key:
    """What the application's modules are imported under; two that differ need two copies."""
    return project.folders, tuple(sorted(project.variables.items()))


def prepare(project: Project) -> None:
    """Give the process the project's environment and import path."""
    os.environ.update(project.variables)
    extend_path(project.folders)
    prepared.append(key_of(project))


def extend_path(folders: tuple[Path, ...]) -> None:
    """Have modules be found there, as in a function."""
    for folder in folders:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
