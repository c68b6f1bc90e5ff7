"""The emulator's options and addresses."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


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
