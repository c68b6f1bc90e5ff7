"""Everything that `twolane doctor` looks at, in the order in which it is shown."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from twolane_local.console import address
from twolane_local.doctor import environ, machine, project

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from twolane_local.doctor.findings import Finding

#: Where ``twolane up`` listens unless told otherwise.
PORTS = (3000, 4566)


def examine(
    path: Path,
    parameters: Mapping[str, str],
    *,
    ports: Sequence[int] = PORTS,
    variables: Mapping[str, str] | None = None,
) -> Iterator[Finding]:
    """Each finding as soon as it is known; the slow ones, which import handlers, come last."""
    known = os.environ if variables is None else variables
    yield from machine.python()
    yield from environ.venv(known)
    yield from environ.packages()
    yield from machine.runtime_client()
    yield from machine.redis()
    yield from environ.redis_url(known)
    yield from environ.aws(known)
    yield from machine.ports(ports, running=[each.url for each in address.find()])
    found, said = project.reads(path, parameters)
    yield from said
    if found is None:
        return
    # Others, of an OS-only runtime, bring an executable that needs nothing of Python.
    specs = [
        spec
        for spec in found.stack.functions
        if spec.runtime.startswith("python") and not spec.unrunnable
    ]
    yield from machine.sam(spec.runtime for spec in specs)
    yield from project.queues(found)
    yield from project.rules(path, parameters)
    yield from project.requirements(spec for spec in specs if spec.made_of is None)
    yield from project.handlers(specs)
