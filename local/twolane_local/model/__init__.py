"""What a template asks for, as the emulator understands it: plain frozen facts, no behaviour.

``twolane_local.template`` makes them from the expanded template; other packages only read them.

``states``   Where something is at one moment: environments, messages, mappings, queues.
``message``  One message, and the digests that SQS returns.
``lineage``  Lambda's recursive-loop detection.
``openapi``  What each reader of an API's OpenAPI document needs.
``options``  What the emulator can be told, and its addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One Lambda function. ``timeout_s`` in seconds, ``memory_mb`` in MiB."""

    name: str  # the function's name on AWS, or its logical id where it has none
    logical_id: str
    handler: str  # "app.api.handler"
    code_dir: Path
    runtime: str = "python3.13"
    timeout_s: float = 3.0
    memory_mb: int = 128
    environment: Mapping[str, str] = field(default_factory=dict)
    #: What stands in ``/opt``, one layer over the other.
    layer_dirs: tuple[Path, ...] = ()
    #: What a build puts into ``/opt/python``.
    layer_sources: tuple[Path, ...] = ()
    #: What stands below ``/mnt``, by its path.
    file_systems: Mapping[str, Path] = field(default_factory=dict)
    #: The .zip files that layers are made of.
    archives: tuple[Path, ...] = ()
    #: Where requirements are installed.
    packages: tuple[Path, ...] = ()
    #: The interpreter, where it is another one than the emulator's.
    python: Path | None = None
    reserved_concurrency: int | None = None
    event_invoke: Mapping[str, Any] = field(default_factory=dict)
    #: The same of its versions and aliases.
    qualified_invoke: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dead_letter_arn: str | None = None
    log_format: str = "Text"  # or "JSON"
    recursive_loop: str = "Terminate"  # or "Allow"
    #: What stands for it behind a colon: the template's aliases of it, and their versions' numbers.
    qualifiers: tuple[str, ...] = ()
    #: Its published versions start from a snapshot, and there is one.
    snap_start: bool = False
    #: Why it cannot run on this machine, where it cannot: each of its invocations fails.
    unrunnable: str = ""
    #: The file that ``code_dir`` is made of where the template names no folder: a .zip file, the
    #: template itself, or what is not there yet.
    made_of: Path | None = None
    #: File and line of the template. A function is no other one when its line is.
    where: str = field(default="", compare=False)

    @property
    def python_path(self) -> tuple[Path, ...]:
        """Where its modules are looked for, in Lambda's order: a later layer is over an earlier.

        https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html
        """
        found = [self.code_dir]
        for layer in reversed(self.layer_dirs):
            found += [layer / "python" / "lib" / self.runtime / "site-packages", layer / "python"]
        return (*found, *reversed(self.layer_sources), *self.packages)

    @property
    def requirements(self) -> tuple[Path, ...]:
        """The files whose packages a build installs, whether they are there or not."""
        own = () if self.made_of else (self.code_dir,)
        return tuple(folder / "requirements.txt" for folder in (*own, *self.layer_sources))

    @property
    def program(self) -> Path | None:
        """What an OS-only runtime starts; ``None`` for Python.

        https://docs.aws.amazon.com/lambda/latest/dg/runtimes-provided.html
        """
        return self.code_dir / "bootstrap" if self.runtime.startswith("provided") else None

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:us-east-1:123456789012:function:{self.name}"


@dataclass(frozen=True, slots=True)
class UsagePlan:
    """How much its keys may ask for. Without a rate or limit, as much as they like."""

    name: str
    rate: float | None = None  # requests per second
    burst: int = 0
    limit: int | None = None  # requests per period
    period: str = "DAY"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key of a REST API's stage, and the plan through which it may call."""

    id: str
    value: str
    plan: UsagePlan


@dataclass(frozen=True, slots=True)
class RestApi:
    """What the methods of one stage of a REST API share."""

    binary: tuple[str, ...] = ()
    #: By their type, in the form of ``x-amazon-apigateway-gateway-responses``.
    responses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    key_source: str = "HEADER"  # or "AUTHORIZER"
    keys: tuple[ApiKey, ...] = ()
    #: Of custom domains, without slashes.
    base_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MockAnswer:
    """What a MOCK integration answers: the same on each request."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    #: Regular expressions: a request's origin that one of them matches is allowed by name.
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RestMethod:
    """What a REST API's method has beside its route."""

    api: RestApi
    operation: str | None = None
    api_key: bool = False
    #: As ``header.X-A``, where the method's validator asks for parameters.
    required: tuple[str, ...] = ()
    #: JSON schemas by content type, where its validator looks at bodies.
    models: Mapping[str, Any] = field(default_factory=dict)
    mock: MockAnswer | None = None


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """One route of an HTTP API, REST API or function URL. ``$default`` matches all."""

    function: str
    method: str = "ANY"
    path: str = "$default"
    kind: str = "httpapi"  # httpapi | rest | url
    payload: str = "2.0"
    api_id: str = "local"
    stage: str = "$default"
    authorizer: Mapping[str, Any] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)  # CORS, binary types …
    #: Why it is not played, a sentence: it is there, and answers 501 with this.
    unplayed: str = ""
    #: Of its stage.
    stage_variables: Mapping[str, str] = field(default_factory=dict)
    rest: RestMethod | None = None
    #: The version or alias that it invokes.
    qualifier: str = ""

    @property
    def target(self) -> str:
        """What is invoked: the function, by its version or alias if the route names one."""
        return f"{self.function}:{self.qualifier}" if self.qualifier else self.function


@dataclass(frozen=True, slots=True)
class QueueSpec:
    """One SQS queue; times in seconds, as its attributes state them."""

    name: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueueMappingSpec:
    """One SQS event source mapping."""

    function: str
    queue_arn: str
    batch_size: int = 10
    batching_window_s: float = 0.0
    maximum_concurrency: int | None = None
    report_batch_item_failures: bool = False
    filter_patterns: tuple[Mapping[str, Any], ...] = ()
    enabled: bool = True
    uuid: str = ""
    #: The version or alias that it invokes.
    qualifier: str = ""
    #: Provisioned mode: from how many to how many dedicated pollers.
    minimum_pollers: int | None = None
    maximum_pollers: int | None = None


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """One EventBridge rule or Scheduler schedule."""

    name: str
    expression: str  # rate(…), cron(…), at(…)
    target_arn: str
    input: str | None = None
    timezone: str = "UTC"
    enabled: bool = True
    source: str = "scheduler"  # scheduler | rule: they send different events
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stack:
    """The whole of what a template asks the emulator to run."""

    name: str
    functions: tuple[FunctionSpec, ...]
    routes: tuple[RouteSpec, ...] = ()
    queues: tuple[QueueSpec, ...] = ()
    mappings: tuple[QueueMappingSpec, ...] = ()
    schedules: tuple[ScheduleSpec, ...] = ()
    schedule_groups: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    #: The template that moto gets: what the emulator owns is taken out, references rewritten.
    moto_template: Mapping[str, Any] = field(default_factory=dict)
    #: What the template takes in from beside it.
    files: tuple[Path, ...] = ()


ACCOUNT = "123456789012"


REGION = "us-east-1"
