"""Attaches the console to an emulator: the public parts that the control API gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from twolane_local.aws import guard
from twolane_local.aws.lambda_.unrunnable import init_failure
from twolane_local.console.application import Application
from twolane_local.console.server import Console

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from twolane_local.aws.event_source_mapping import EventSourceMappings
    from twolane_local.aws.lambda_.functions import Functions
    from twolane_local.aws.scheduler.schedule import ScheduleBook
    from twolane_local.aws.scheduler.targets import Invocations
    from twolane_local.aws.sqs.service import QueueService
    from twolane_local.clock import Clock
    from twolane_local.faults.injection import Faults
    from twolane_local.journal import Journal
    from twolane_local.model import FunctionSpec, Stack
    from twolane_local.model.options import Addresses, Options


@dataclass(frozen=True)
class Parts:
    """``describe`` returns the ``description``; without ``faults`` none can be injected."""

    journal: Journal
    clock: Clock
    queues: QueueService
    mappings: EventSourceMappings
    functions: Functions
    book: ScheduleBook
    invocations: Invocations
    application: Application
    describe: Callable[[], Mapping[str, Any]]
    faults: Faults | None = None


class ConsoleEmulator(Protocol):
    """The attributes of ``Emulator`` that the console reads; the emulator's package is above."""

    options: Options
    aws_url: str
    stack: Stack
    journal: Journal
    clock: Clock
    mappings: EventSourceMappings
    functions: Functions
    book: ScheduleBook
    faults: Faults

    @property
    def addresses(self) -> Addresses: ...

    @property
    def notes(self) -> Sequence[str]: ...

    @property
    def queues(self) -> QueueService: ...

    @property
    def invocations(self) -> Invocations: ...


def attach(emulator: ConsoleEmulator) -> Console:
    """Return the console of a started emulator, which starts and stops it."""
    parts = Parts(
        journal=emulator.journal,
        clock=emulator.clock,
        queues=emulator.queues,
        mappings=emulator.mappings,
        functions=emulator.functions,
        book=emulator.book,
        invocations=emulator.invocations,
        application=Application(
            lambda: likeliest(emulator),
            lambda spec: guard.function_environment(
                spec,
                endpoint_url=emulator.aws_url,
                allow_real_aws=emulator.options.allow_real_aws,
            ),
        ),
        describe=lambda: description(emulator),
        faults=emulator.faults,
    )
    options = emulator.options
    return Console(parts, port=options.console_port, keep=options.persist)


def likeliest(emulator: ConsoleEmulator) -> list[FunctionSpec]:
    """Return the functions whose modules may have the Celery app, those that read a queue first."""
    readers = {mapping.function for mapping in emulator.stack.mappings}
    found = [spec for spec in emulator.stack.functions if init_failure(spec) is None]
    return sorted(found, key=lambda spec: spec.name not in readers)


def description(emulator: ConsoleEmulator) -> Mapping[str, Any]:
    """Return the emulator's part of ``GET /api/status``: stack, template, addresses, notes."""
    options, addresses = emulator.options, emulator.addresses
    return {
        "stack": emulator.stack.name,
        "template": str(options.template.resolve()),
        "mode": "in-process" if options.in_process else "isolated",
        "addresses": {
            "apis": dict(addresses.apis),
            "aws": addresses.aws,
            "store": addresses.store,
            "queues": dict(addresses.queues),
        },
        "notes": list(emulator.notes),
    }
