"""Everything that `twolane doctor` looks at, in the order in which it is shown."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from twolane_local import template
from twolane_local.aws import guard
from twolane_local.checks.lint import lint
from twolane_local.checks.lint.findings import Severity
from twolane_local.errors import LocalError, PortInUseError
from twolane_local.http.servers import bind
from twolane_local.remote import address
from twolane_local.template import stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from twolane_local.model import FunctionSpec, Stack


#: The levels, the worst last. Only an error keeps something from working.
LEVELS = ("ok", "note", "warning", "error")


@dataclass(frozen=True, slots=True)
class Finding:
    """``remedy`` is empty where all is well."""

    check: str
    level: str
    what: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        found = {"check": self.check, "level": self.level, "what": self.what, "do": self.remedy}
        return {name: value for name, value in found.items() if value}


def ok(check: str, what: str) -> Finding:
    return Finding(check, "ok", what)


#: Those that Lambda offers and that this is tested with:
#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
OLDEST, NEWEST = (3, 11), (3, 13)


def python(version: tuple[int, int] = sys.version_info[:2]) -> Iterator[Finding]:
    name = ".".join(map(str, version))
    if version < OLDEST:
        yield Finding("python", "error", f"this is Python {name}", "use Python 3.11, 3.12 or 3.13")
    elif version > NEWEST:
        yield Finding(
            "python", "warning", f"Python {name} is newer than what Lambda runs and this is "
            "tested with", "use Python 3.11, 3.12 or 3.13",
        )  # fmt: skip
    else:
        yield ok("python", f"Python {name}")


def redis(which: Callable[[str], str | None] = shutil.which) -> Iterator[Finding]:
    found = which("redis-server")
    if found is None:
        yield Finding(
            "redis", "note", "redis-server is not on the PATH: an embedded store in Python stands "
            "in, slower and not quite the same",
            "install it (apt-get install redis-server, brew install redis), or set REDIS_URL",
        )  # fmt: skip
    else:
        yield ok("redis", found)


def runtime_client(
    platform: str = sys.platform,
    has: Callable[[str], object | None] = importlib.util.find_spec,
) -> Iterator[Finding]:
    """``awslambdaric`` has wheels for Linux only; isolated environments need it."""
    if platform != "linux":
        yield Finding(
            "awslambdaric", "warning", f"isolated environments need Linux, and this is {platform}",
            "start with `twolane up --in-process`",
        )  # fmt: skip
    elif has("awslambdaric") is None:
        yield Finding(
            "awslambdaric", "error", "AWS's runtime client is not installed",
            "pip install 'twolane[local]'",
        )  # fmt: skip
    else:
        yield ok("awslambdaric", "AWS's runtime client is installed")


def sam(
    runtimes: Iterable[str], which: Callable[[str], str | None] = shutil.which
) -> Iterator[Finding]:
    """``sam build`` wants the very ``pythonX.Y`` of each runtime, and runs its pip."""
    if which("sam") is None:
        yield Finding(
            "sam", "note", "the SAM CLI is not installed: it deploys; nothing here needs it",
            "https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/"
            "install-sam-cli.html",
        )  # fmt: skip
        return
    missing = sorted({runtime for runtime in runtimes if which(runtime) is None})
    for runtime in missing:
        yield Finding(
            "sam", "warning", f"`sam build` needs {runtime} on the PATH, and there is none",
            f"install {runtime}, or choose a runtime that is here (--parameter Runtime=…)",
        )  # fmt: skip
    if not missing:
        yield ok("sam", "the SAM CLI and the runtimes that it builds for")


def free_ports(wanted: Iterable[int], *, running: Iterable[str] = ()) -> Iterator[Finding]:
    """``running`` are the addresses of emulators that run: they hold the ports, as they should."""
    emulators = ", ".join(running)
    for port in wanted:
        try:
            bind(port, "--port").close()
        except PortInUseError as error:
            if emulators:
                yield ok("ports", f"{port} is in use; `twolane up` runs ({emulators})")
            else:
                yield Finding(
                    "ports", "warning", str(error).partition(";")[0],
                    f"stop what holds it (`ss -ltnp 'sport = :{port}'`), or start with "
                    "`twolane up --port 0 --aws-port 0`",
                )  # fmt: skip
        else:
            yield ok("ports", f"{port} is free")


def venv(environ: Mapping[str, str], prefix: str = sys.prefix) -> Iterator[Finding]:
    """The one that is active must be the one that runs."""
    active = environ.get("VIRTUAL_ENV")
    if active and Path(active).resolve() != Path(prefix).resolve():
        yield Finding(
            "venv", "warning", f"{active} is active, but `twolane` runs from {prefix}",
            "run `python -m twolane_local.cli`, or install twolane in the active environment",
        )  # fmt: skip
    else:
        yield ok("venv", prefix)


def packages(
    required: Iterable[str] | None = None,
    version: Callable[[str], str] = metadata.version,
) -> Iterator[Finding]:
    """An environment that was made before a dependency changed misses it, or has an older one."""
    from packaging.requirements import Requirement

    wanted = metadata.requires("twolane") or [] if required is None else required
    stale = []
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": "local"}):
            continue
        try:
            found = version(requirement.name)
        except metadata.PackageNotFoundError:
            stale.append(f"{requirement} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            stale.append(f"{requirement} is wanted, {found} is here")
    for problem in stale:
        yield Finding(
            "packages", "error", problem, "install again: pip install --upgrade 'twolane[local]'"
        )
    if not stale:
        yield ok("packages", "all requirements are installed")


def aws(environ: Mapping[str, str]) -> Iterator[Finding]:
    """Functions never get these; the commands with ``--stack`` and the AWS CLI do."""
    endpoint = environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        local = urlsplit(endpoint).hostname in {"127.0.0.1", "localhost", "::1"}
        if not local or not _answers(endpoint, 4566):
            yield Finding(
                "aws", "warning", f"AWS_ENDPOINT_URL is {endpoint}, where "
                + ("nothing answers" if local else "AWS calls of this shell go"),
                "unset AWS_ENDPOINT_URL, or start `twolane up` and eval \"$(twolane env)\"",
            )  # fmt: skip
        else:
            yield ok("aws", f"AWS calls of this shell go to {endpoint}")
        return
    who = _credentials(environ)
    if who is None:
        yield ok("aws", "no AWS credentials in this shell's environment")
    else:
        yield Finding(
            "aws", "note", f"{who} is set: `--stack`, `sam` and `aws` in this shell act on a real "
            "account; functions under `twolane up` never see it",
            "unset it if that is not what you want",
        )  # fmt: skip


def _credentials(environ: Mapping[str, str]) -> str | None:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN"):
        if environ.get(name) and environ[name] not in {"local", "testing"}:
            return name
    return None


def redis_url(environ: Mapping[str, str]) -> Iterator[Finding]:
    """``twolane up`` takes the one that is named, and does not start one of its own."""
    url = environ.get("REDIS_URL")
    if not url:
        return
    if _answers(url, 6379):
        yield ok("redis url", "the Redis of REDIS_URL answers")
    else:
        where = urlsplit(url)
        yield Finding(
            "redis url", "error",
            f"nothing answers at REDIS_URL ({where.hostname}:{where.port or 6379})",
            "start it, or unset REDIS_URL so that `twolane up` starts one",
        )  # fmt: skip


def _answers(url: str, port: int) -> bool:
    parts = urlsplit(url)
    try:
        address = (parts.hostname or "127.0.0.1", parts.port or port)
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


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
    yield from python()
    yield from venv(known)
    yield from packages()
    yield from runtime_client()
    yield from redis()
    yield from redis_url(known)
    yield from aws(known)
    yield from free_ports(ports, running=[each.url for each in address.find()])
    found, said = reads(path, parameters)
    yield from said
    if found is None:
        return
    # Others, of an OS-only runtime, bring an executable that needs nothing of Python.
    specs = [
        spec
        for spec in found.stack.functions
        if spec.runtime.startswith("python") and not spec.unrunnable
    ]
    yield from sam(spec.runtime for spec in specs)
    yield from queues(found)
    yield from rules(path, parameters)
    yield from requirements(spec for spec in specs if spec.made_of is None)
    yield from handlers(specs)
