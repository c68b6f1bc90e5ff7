"""The model of a stack: frozen dataclasses without behaviour.

``twolane_local.template`` builds them from the expanded template, other packages only read them.

``states``   The state of environments, messages, mappings and queues at one moment.
``message``  One message, and the digests that SQS returns.
``lineage``  Lambda's recursive-loop detection.
``openapi``  Helpers for reading an API's OpenAPI document.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


ACCOUNT = "123456789012"
REGION = "us-east-1"
#: The version that an unqualified name invokes.
LATEST = "$LATEST"


@dataclass(frozen=True, slots=True)
class FunctionSpec:
    """One Lambda function. ``timeout_s`` in seconds, ``memory_mb`` in MiB."""

    name: str  # the function's name on AWS, or its logical id
    logical_id: str
    handler: str  # "app.api.handler"
    code_dir: Path
    runtime: str = "python3.13"
    timeout_s: float = 3.0
    memory_mb: int = 128
    environment: Mapping[str, str] = field(default_factory=dict)
    #: The folders that are merged into ``/opt``, lowest layer first.
    layer_dirs: tuple[Path, ...] = ()
    #: The folders that a build copies to ``/opt/python``.
    layer_sources: tuple[Path, ...] = ()
    #: The folders that are mounted below ``/mnt``, by path.
    file_systems: Mapping[str, Path] = field(default_factory=dict)
    #: The .zip files of layers.
    archives: tuple[Path, ...] = ()
    #: The folders with installed requirements.
    packages: tuple[Path, ...] = ()
    #: The interpreter, if it is not the emulator's.
    python: Path | None = None
    reserved_concurrency: int | None = None
    event_invoke: Mapping[str, Any] = field(default_factory=dict)
    #: ``event_invoke`` of its versions and aliases.
    qualified_invoke: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    dead_letter_arn: str | None = None
    log_format: str = "Text"  # or "JSON"
    #: The levels of a JSON log; the default is INFO.
    application_log_level: str = ""
    system_log_level: str = ""
    #: The log group, if it is not the function's own.
    log_group: str = ""
    recursive_loop: str = "Terminate"  # or "Allow"
    #: Each tenant has execution environments of its own.
    tenant_isolation: bool = False
    #: Its aliases and versions in the template.
    qualifiers: tuple[str, ...] = ()
    #: It has a published version, which starts from a snapshot.
    snap_start: bool = False
    #: The reason why it cannot run on this machine; each invocation fails with it.
    unrunnable: str = ""
    #: ``$LATEST``, or the number of a published version that has its own code and configuration.
    version: str = LATEST
    #: Those versions by number. A qualifier that is not in here runs the current code.
    versions: Mapping[str, FunctionSpec] = field(default_factory=dict, compare=False, repr=False)
    #: The versions that an alias leads to, each with its weight; the weights' sum is 1.
    aliases: Mapping[str, Mapping[str, float]] = field(default_factory=dict, compare=False)
    #: Its properties as CloudFormation and the Lambda API write them, for its API.
    properties: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    #: Its code was given to the API, with the packages that it needs.
    by_api: bool = False
    #: The file that ``code_dir`` is made from, if the template names no folder: a .zip file, the
    #: template itself, or a file that does not exist yet.
    made_of: Path | None = None
    #: File and line of the template. A function that only moves to another line is the same.
    where: str = field(default="", compare=False)

    @property
    def python_path(self) -> tuple[Path, ...]:
        """The folders that its modules are imported from; a later layer comes before an earlier:
        https://docs.aws.amazon.com/lambda/latest/dg/packaging-layers.html
        """
        found = [self.code_dir]
        for layer in reversed(self.layer_dirs):
            found += [layer / "python" / "lib" / self.runtime / "site-packages", layer / "python"]
        return (*found, *reversed(self.layer_sources), *self.packages)

    @property
    def log_group_name(self) -> str:
        return self.log_group or f"/aws/lambda/{self.name}"

    @property
    def requirements(self) -> tuple[Path, ...]:
        """The files whose packages a build installs; they may not exist."""
        own = () if self.made_of or self.by_api else (self.code_dir,)
        return tuple(folder / "requirements.txt" for folder in (*own, *self.layer_sources))

    @property
    def program(self) -> Path | None:
        """The program that an OS-only runtime starts; ``None`` for Python:
        https://docs.aws.amazon.com/lambda/latest/dg/runtimes-provided.html
        """
        return self.code_dir / "bootstrap" if self.runtime.startswith("provided") else None

    @property
    def arn(self) -> str:
        return f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{self.name}"


@dataclass(frozen=True, slots=True)
class LayerSpec:
    """One version of a layer. Either ``folder`` stands for ``/opt``, or a build puts ``sources``
    into ``/opt/python``.
    """

    arn: str
    folder: Path | None = None
    sources: Path | None = None
    #: The file that the folder was unpacked from.
    archive: Path | None = None
    properties: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class UsagePlan:
    """How many requests its keys may send. ``None`` is no limit."""

    name: str
    rate: float | None = None  # requests per second
    burst: int = 0
    limit: int | None = None  # requests per period
    period: str = "DAY"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """An API key of a REST API's stage, and its usage plan."""

    id: str
    value: str
    plan: UsagePlan


@dataclass(frozen=True, slots=True)
class RestApi:
    """The settings that the methods of a REST API's stage share."""

    binary: tuple[str, ...] = ()
    #: Gateway responses by type, in the form of ``x-amazon-apigateway-gateway-responses``.
    responses: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    key_source: str = "HEADER"  # or "AUTHORIZER"
    keys: tuple[ApiKey, ...] = ()
    #: The base paths of custom domains, without slashes.
    base_paths: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MockResponse:
    """The response of a MOCK integration, the same for each request."""

    status: int
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""
    #: Regular expressions for the origins that CORS allows.
    origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RestMethod:
    """The settings of a REST API's method."""

    api: RestApi
    operation: str | None = None
    api_key: bool = False
    #: The parameters that its validator requires, as ``header.X-A``.
    required: tuple[str, ...] = ()
    #: JSON schemas by content type, if its validator checks bodies.
    models: Mapping[str, Any] = field(default_factory=dict)
    mock: MockResponse | None = None


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
    #: The reason why it is not supported; it then answers 501 with this sentence.
    unsupported: str = ""
    stage_variables: Mapping[str, str] = field(default_factory=dict)
    rest: RestMethod | None = None
    #: The version or alias that it invokes.
    qualifier: str = ""

    @property
    def target(self) -> str:
        """The function to invoke, with the version or alias that the route names."""
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
    #: Its UUID; its logical id, if the template declares it.
    uuid: str = ""
    #: The version or alias that it invokes.
    qualifier: str = ""
    #: The limits of provisioned mode.
    minimum_pollers: int | None = None
    maximum_pollers: int | None = None
    #: What its API shows and nothing here acts on, as the API writes it: its filters' text,
    #: ``KMSKeyArn``, ``MetricsConfig``, ``Tags``, ``LastModified``.
    shown: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)


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
    """Everything that the emulator runs."""

    name: str
    functions: tuple[FunctionSpec, ...]
    layers: tuple[LayerSpec, ...] = ()
    #: The permissions of functions: the target (``name`` or ``name:qualifier``), and properties.
    permissions: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    routes: tuple[RouteSpec, ...] = ()
    queues: tuple[QueueSpec, ...] = ()
    mappings: tuple[QueueMappingSpec, ...] = ()
    schedules: tuple[ScheduleSpec, ...] = ()
    schedule_groups: tuple[str, ...] = ()
    outputs: Mapping[str, str] = field(default_factory=dict)
    #: The template for moto, without the resources that the emulator owns.
    moto_template: Mapping[str, Any] = field(default_factory=dict)
    #: The files that the template includes.
    files: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class Options:
    """Port 0 is any free port. ``persist`` keeps queues and tables in that directory."""

    template: Path
    port: int = 3000
    aws_port: int = 4566
    redis_url: str | None = None
    in_process: bool = False
    debug: bool = False  # in-process, and no timeouts while a debugger holds a handler
    parameters: Mapping[str, str] = field(default_factory=dict)
    imports: Mapping[str, str] = field(default_factory=dict)  # other stacks' exports, by name
    stack_name: str = "local"
    allow_real_aws: bool = False
    http: bool = True
    sources: bool = True  # mappings, schedules and notifications
    warm: bool = True  # an environment of each function at the start
    warm_limit: int | None = None  # with more functions than these, warm none before the start ends
    reload: bool = False
    persist: Path | None = None
    console: bool = False
    console_port: int = 0
    build: bool = False  # install each function's requirements
    real_cold_starts: bool = False  # no fork server: each environment imports everything itself
    allowed_hosts: tuple[str, ...] = ()  # further names of the APIs and the AWS endpoint


@dataclass(frozen=True, slots=True)
class Addresses:
    """The emulator's URLs; ``apis`` by API id, ``queues`` by name."""

    apis: Mapping[str, str]
    aws: str
    store: str
    store_kind: str
    queues: Mapping[str, str]
    console: str | None = None
