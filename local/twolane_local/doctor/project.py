"""What the project says: its template, its handlers, its queues."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

from twolane_local import guard, stack, template
from twolane_local.doctor.findings import Finding, ok
from twolane_local.errors import LocalError
from twolane_local.lint import Severity, lint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    from twolane_local.model import FunctionSpec, Stack

#: Nothing listens there: an import must not need AWS.
_NOWHERE = "http://127.0.0.1:9"
_IMPORT_TIMEOUT_S = 60.0
_IMPORT = """
import importlib, os, sys
module, _, name = os.environ["_HANDLER"].rpartition(".")
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
getattr(importlib.import_module(module.replace("/", ".")), name)
"""


@dataclass(frozen=True, slots=True)
class Project:
    """A template that was read, and what is not played of it."""

    stack: Stack
    notes: tuple[str, ...]


def load(path: Path, parameters: Mapping[str, str]) -> Project:
    """Read it as ``twolane up`` does, without starting anything. Raises ``LocalError``."""
    expanded = template.load(path, parameters, stack_name="local")
    facts = stack.Facts(
        aws_url=_NOWHERE,
        base_url=lambda _: _NOWHERE,
        elsewhere=lambda name, attribute: f"{name}.{attribute}" if attribute else name,
    )
    built, notes = stack.build(expanded, facts)
    return Project(built, tuple(notes))


def reads(path: Path, parameters: Mapping[str, str]) -> tuple[Project | None, list[Finding]]:
    """The project, if its template can be read, and what there is to say of that."""
    try:
        project = load(path, parameters)
    except LocalError as error:
        return None, [
            Finding("template", "error", str(error), "correct it; `twolane lint` says more")
        ]
    said = [
        Finding("template", "note", note, "nothing, if you do not need it on this machine")
        for note in project.notes
    ]
    functions, queues = len(project.stack.functions), len(project.stack.queues)
    return project, [ok("template", f"{path}: {functions} functions, {queues} queues"), *said]


def rules(path: Path, parameters: Mapping[str, str]) -> Iterator[Finding]:
    """How many of lint's rules do not hold; what they are, lint says itself."""
    found = lint(path, parameters, with_application=False)
    bad = [each for each in found if each.severity is not Severity.NOTE]
    if bad:
        worst = max(each.severity for each in bad)
        ids = ", ".join(sorted({each.rule.id for each in bad}))
        yield Finding(
            "lint", worst.label, f"{len(bad)} of lint's rules do not hold ({ids})",
            "`twolane lint` says where, why and what to do",
        )  # fmt: skip
    else:
        yield ok("lint", "the template keeps all rules")


def queues(project: Project) -> Iterator[Finding]:
    """Each queue is read by a function, or is the dead-letter queue of another."""
    read = {mapping.queue_arn.rpartition(":")[2] for mapping in project.stack.mappings}
    dead = {
        json.loads(queue.attributes["RedrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
        for queue in project.stack.queues
        if queue.attributes.get("RedrivePolicy")
    }
    unread = [each.name for each in project.stack.queues if each.name not in read | dead]
    for name in unread:
        yield Finding(
            "queues", "warning", f"nothing reads the queue {name}: what is sent there stays",
            "give a function an Events entry of Type: SQS with this queue, or take it out",
        )  # fmt: skip
    if not unread:
        yield ok("queues", "each queue is read, or holds the dead letters of one")


def handlers(specs: Iterable[FunctionSpec]) -> list[Finding]:
    """Each handler imports, in a process of its own, guarded as in the emulator."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(_imports, specs))


def _imports(spec: FunctionSpec) -> Finding:
    environ = guard.function_environment(spec, endpoint_url=_NOWHERE)
    try:
        done = subprocess.run(
            [sys.executable, "-c", _IMPORT],
            cwd=spec.code_dir,
            env=environ,
            capture_output=True,
            text=True,
            timeout=_IMPORT_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return _broken(spec, str(error))
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        return _broken(spec, lines[-1])
    return ok("handlers", f"{spec.logical_id}: {spec.handler} imports")


def _broken(spec: FunctionSpec, why: str) -> Finding:
    return Finding(
        "handlers", "error", f"{spec.logical_id}: {spec.handler} does not import: {why}",
        f"correct it, or install what it needs (requirements.txt in {spec.code_dir})",
    )  # fmt: skip


def requirements(specs: Iterable[FunctionSpec]) -> Iterator[Finding]:
    """Plain ``sam build`` installs what a ``requirements.txt`` beside the code names."""
    folders = sorted({spec.code_dir for spec in specs})
    missing = [folder for folder in folders if not (folder / "requirements.txt").is_file()]
    for folder in missing:
        yield Finding(
            "requirements", "warning", f"{folder} has no requirements.txt: `sam build` would ship "
            "the code without what it imports", "write one (`pip freeze` is a start)",
        )  # fmt: skip
    if folders and not missing:
        yield ok("requirements", "each code folder has its requirements.txt")
