"""The checks of `twolane doctor`: this machine, this shell, and the project."""

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
from twolane_local.remote import emulator as address
from twolane_local.template import stack

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from twolane_local.model import FunctionSpec, Stack

#: The ports that ``twolane up`` uses by default.
PORTS = (3000, 4566)
#: The levels, the worst last. Only with an error something does not work.
LEVELS = ("ok", "note", "warning", "error")


@dataclass(frozen=True, slots=True)
class CheckResult:
    """The result of one check; ``remedy`` is empty if nothing is wrong."""

    check: str
    level: str
    what: str
    remedy: str = ""

    def as_dict(self) -> dict[str, str]:
        found = {"check": self.check, "level": self.level, "what": self.what, "do": self.remedy}
        return {name: value for name, value in found.items() if value}


def ok(check: str, what: str) -> CheckResult:
    return CheckResult(check, "ok", what)


#: The versions that Lambda offers and that twolane is tested with:
#: https://docs.aws.amazon.com/lambda/latest/dg/lambda-runtimes.html
OLDEST, NEWEST = (3, 11), (3, 14)


def check_python(version: tuple[int, int] = sys.version_info[:2]) -> Iterator[CheckResult]:
    name = ".".join(map(str, version))
    if version < OLDEST:
        yield CheckResult("python", "error", f"this is Python {name}", "use Python 3.11 to 3.14")
    elif version > NEWEST:
        yield CheckResult(
            "python", "warning", f"Python {name} is newer than the versions that Lambda runs and "
            "twolane is tested with", "use Python 3.11 to 3.14",
        )  # fmt: skip
    else:
        yield ok("python", f"Python {name}")


def check_redis(which: Callable[[str], str | None] = shutil.which) -> Iterator[CheckResult]:
    found = which("redis-server")
    if found is None:
        yield CheckResult(
            "redis", "note", "redis-server is not on the PATH: an embedded store in Python is "
            "used, which is slower and not quite the same",
            "install it (apt-get install redis-server, brew install redis), or set REDIS_URL",
        )  # fmt: skip
    else:
        yield ok("redis", found)


def check_runtime_client(
    platform: str = sys.platform,
    has: Callable[[str], object | None] = importlib.util.find_spec,
) -> Iterator[CheckResult]:
    """Isolated environments need ``awslambdaric``, which has wheels for Linux only."""
    if platform != "linux":
        yield CheckResult(
            "awslambdaric", "warning", f"isolated environments need Linux, and this is {platform}",
            "start with `twolane up --in-process`",
        )  # fmt: skip
    elif has("awslambdaric") is None:
        yield CheckResult(
            "awslambdaric", "error", "AWS's runtime client is not installed",
            "pip install --upgrade twolane-local",
        )  # fmt: skip
    else:
        yield ok("awslambdaric", "AWS's runtime client is installed")


def check_sam(
    runtimes: Iterable[str], which: Callable[[str], str | None] = shutil.which
) -> Iterator[CheckResult]:
    """``sam build`` needs the exact ``pythonX.Y`` of each runtime, and runs its pip."""
    if which("sam") is None:
        yield CheckResult(
            "sam", "note", "the SAM CLI is not installed; only a deployment needs it",
            "https://docs.aws.amazon.com/serverless-application-model/latest/developerguide/"
            "install-sam-cli.html",
        )  # fmt: skip
        return
    missing = sorted({runtime for runtime in runtimes if which(runtime) is None})
    for runtime in missing:
        yield CheckResult(
            "sam", "warning", f"`sam build` needs {runtime}, which is not on the PATH",
            f"install {runtime}, or choose an installed runtime (--parameter Runtime=…)",
        )  # fmt: skip
    if not missing:
        yield ok("sam", "the SAM CLI and the runtimes that it builds for are installed")


def check_free_ports(
    wanted: Iterable[int], *, running: Iterable[str] = ()
) -> Iterator[CheckResult]:
    """``running`` are the addresses of running emulators, which may hold the ports."""
    emulators = ", ".join(running)
    for port in wanted:
        try:
            bind(port, "--port").close()
        except PortInUseError as error:
            if emulators:
                yield ok("ports", f"{port} is in use; `twolane up` runs ({emulators})")
            else:
                yield CheckResult(
                    "ports", "warning", str(error).partition(";")[0],
                    f"stop the process that uses it (`ss -ltnp 'sport = :{port}'`), or start with "
                    "`twolane up --port 0 --aws-port 0`",
                )  # fmt: skip
        else:
            yield ok("ports", f"{port} is free")


def check_venv(environ: Mapping[str, str], prefix: str = sys.prefix) -> Iterator[CheckResult]:
    """The active environment must be the one that runs ``twolane``."""
    active = environ.get("VIRTUAL_ENV")
    if active and Path(active).resolve() != Path(prefix).resolve():
        yield CheckResult(
            "venv", "warning", f"{active} is active, but `twolane` runs from {prefix}",
            "run `python -m twolane_local.cli`, or install twolane in the active environment",
        )  # fmt: skip
    else:
        yield ok("venv", prefix)


def check_packages(
    required: Iterable[str] | None = None,
    version: Callable[[str], str] = metadata.version,
) -> Iterator[CheckResult]:
    """An older environment may lack a dependency, or have an old version of it."""
    from packaging.requirements import Requirement

    if required is None:
        required = [
            one for name in ("twolane", "twolane-local") for one in metadata.requires(name) or ()
        ]
    stale = []
    for text in required:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            found = version(requirement.name)
        except metadata.PackageNotFoundError:
            stale.append(f"{requirement} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            stale.append(f"{requirement} is required, {found} is installed")
    for problem in stale:
        yield CheckResult(
            "packages", "error", problem, "install again: pip install --upgrade twolane-local"
        )
    if not stale:
        yield ok("packages", "all requirements are installed")


def check_aws(environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """Functions never get the credentials; commands with ``--stack`` and the AWS CLI use them."""
    endpoint = environ.get("AWS_ENDPOINT_URL")
    if endpoint:
        local = urlsplit(endpoint).hostname in {"127.0.0.1", "localhost", "::1"}
        if not local or not _answers(endpoint, 4566):
            yield CheckResult(
                "aws", "warning", f"AWS_ENDPOINT_URL is {endpoint}, where "
                + ("nothing answers" if local else "AWS calls of this shell go"),
                "unset AWS_ENDPOINT_URL, or start `twolane up` and eval \"$(twolane env)\"",
            )  # fmt: skip
        else:
            yield ok("aws", f"AWS calls of this shell go to {endpoint}")
        return
    name = _credentials(environ)
    if name is None:
        yield ok("aws", "no AWS credentials in this shell's environment")
    else:
        yield CheckResult(
            "aws", "note", f"{name} is set: `--stack`, `sam` and `aws` in this shell act on a real "
            "account; functions under `twolane up` never see it",
            "unset it if that is not what you want",
        )  # fmt: skip


def _credentials(environ: Mapping[str, str]) -> str | None:
    for name in ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_ROLE_ARN"):
        if environ.get(name) and environ[name] not in {"local", "testing"}:
            return name
    return None


def check_redis_url(environ: Mapping[str, str]) -> Iterator[CheckResult]:
    """``twolane up`` uses this Redis instead of starting one."""
    url = environ.get("REDIS_URL")
    if not url:
        return
    if _answers(url, 6379):
        yield ok("redis url", "the Redis of REDIS_URL answers")
    else:
        where = urlsplit(url)
        yield CheckResult(
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


#: Nothing listens on this port: an import must not need AWS.
_NOWHERE = "http://127.0.0.1:9"
_IMPORT_TIMEOUT_S = 60.0
_IMPORT = """
import importlib, os, sys
module, _, name = os.environ["_HANDLER"].rpartition(".")
sys.path[:0] = os.environ["PYTHONPATH"].split(os.pathsep)
getattr(importlib.import_module(module.replace("/", ".")), name)
"""


def check_template(
    path: Path, parameters: Mapping[str, str]
) -> tuple[Stack | None, list[CheckResult]]:
    """Read the template as ``twolane up`` does, and return its stack, if it can be read."""
    context = stack.BuildContext(
        aws_url=_NOWHERE,
        base_url=lambda _: _NOWHERE,
        elsewhere=lambda name, attribute: f"{name}.{attribute}" if attribute else name,
    )
    try:
        built, notes = stack.build(template.load(path, parameters, stack_name="local"), context)
    except LocalError as error:
        return None, [
            CheckResult("template", "error", str(error), "correct it; `twolane lint` says more")
        ]
    results = [
        CheckResult("template", "note", note, "nothing, if you do not need it on this machine")
        for note in notes
    ]
    functions, queues = len(built.functions), len(built.queues)
    return built, [ok("template", f"{path}: {functions} functions, {queues} queues"), *results]


def check_rules(path: Path, parameters: Mapping[str, str]) -> Iterator[CheckResult]:
    """Count the broken rules of lint; `twolane lint` describes them."""
    found = lint(path, parameters, with_application=False)
    bad = [each for each in found if each.severity is not Severity.NOTE]
    if bad:
        worst = max(each.severity for each in bad)
        ids = ", ".join(sorted({each.rule.id for each in bad}))
        yield CheckResult(
            "lint", worst.label, f"{len(bad)} findings of lint ({ids})",
            "`twolane lint` says where, why and what to do",
        )  # fmt: skip
    else:
        yield ok("lint", "lint finds nothing")


def check_queues(built: Stack) -> Iterator[CheckResult]:
    """Each queue is read by a function, or is the dead-letter queue of another."""
    read = {mapping.queue_arn.rpartition(":")[2] for mapping in built.mappings}
    dead = {
        json.loads(queue.attributes["RedrivePolicy"])["deadLetterTargetArn"].rpartition(":")[2]
        for queue in built.queues
        if queue.attributes.get("RedrivePolicy")
    }
    unread = [each.name for each in built.queues if each.name not in read | dead]
    for name in unread:
        yield CheckResult(
            "queues", "warning", f"nothing reads the queue {name}: its messages stay there",
            "give a function an Events entry of Type: SQS with this queue, or remove it",
        )  # fmt: skip
    if not unread:
        yield ok("queues", "each queue is read, or is a dead-letter queue")


def check_handlers(specs: Iterable[FunctionSpec]) -> list[CheckResult]:
    """Import each handler in a process of its own, with the emulator's environment."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        return list(pool.map(_imports, specs))


def _imports(spec: FunctionSpec) -> CheckResult:
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


def _broken(spec: FunctionSpec, why: str) -> CheckResult:
    return CheckResult(
        "handlers", "error", f"{spec.logical_id}: {spec.handler} does not import: {why}",
        f"correct it, or install what it needs (requirements.txt in {spec.code_dir})",
    )  # fmt: skip


def check_requirements(specs: Iterable[FunctionSpec]) -> Iterator[CheckResult]:
    """Plain ``sam build`` installs what a ``requirements.txt`` beside the code names."""
    folders = sorted({spec.code_dir for spec in specs})
    missing = [folder for folder in folders if not (folder / "requirements.txt").is_file()]
    for folder in missing:
        yield CheckResult(
            "requirements", "warning", f"{folder} has no requirements.txt: `sam build` would ship "
            "the code without its dependencies", "write one (`pip freeze` is a start)",
        )  # fmt: skip
    if folders and not missing:
        yield ok("requirements", "each code folder has a requirements.txt")


def examine(
    path: Path,
    parameters: Mapping[str, str],
    *,
    ports: Sequence[int] = PORTS,
    variables: Mapping[str, str] | None = None,
) -> Iterator[CheckResult]:
    """Yield each result as soon as it is known; the slow check, which imports handlers, is last."""
    known = os.environ if variables is None else variables
    yield from check_python()
    yield from check_venv(known)
    yield from check_packages()
    yield from check_runtime_client()
    yield from check_redis()
    yield from check_redis_url(known)
    yield from check_aws(known)
    yield from check_free_ports(ports, running=[each.url for each in address.find()])
    built, results = check_template(path, parameters)
    yield from results
    if built is None:
        return
    # The functions of an OS-only runtime are executables, which do not need Python.
    specs = [
        spec
        for spec in built.functions
        if spec.runtime.startswith("python") and not spec.unrunnable
    ]
    yield from check_sam(spec.runtime for spec in specs)
    yield from check_queues(built)
    yield from check_rules(path, parameters)
    yield from check_requirements(spec for spec in specs if spec.made_of is None)
    yield from check_handlers(specs)
