"""Runs public applications, with their own pins, under ``twolane up``.

Start it through ``make applications SUITE=DIR``. DIR holds their checkouts, each as OWNER+NAME, or
what ``--clone`` clones; nothing of theirs is part of this repository. What we add to each, and the
lines that change, are in the folder beside this file that has an ``application.toml``: handlers, a
template, and a script that exercises it.

For each: its checkout at the commit that is named, an environment of its own with the versions that
it pins and twolane beside them, ``twolane up``, and ``exercise.py`` against it. Their code runs, so
look at what you give it. Exit status: 0 if all of them do what is expected.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
import tomllib
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import boto3
import httpx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
#: What the log says where something of twolane's, not of the application's, goes wrong.
_WRONG = re.compile(
    r"^! |Signal handler <|could not be recorded|after the end of task|environment exited"
    r"|is not a version that twolane was tested with|LAMBDA_WARNING|messages failed"
)

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
UV = [found] if (found := shutil.which("uv")) else [sys.executable, "-m", "uv"]
#: The projects of this checkout. Their wheels are installed, not the checkout itself: in it is an
#: application of its own, whose name is one that many have.
OURS = [path for path in (ROOT, ROOT / "local") if (path / "pyproject.toml").is_file()]
#: Shown of the versions that an environment got.
SHOWN = ("celery", "kombu", "redis", "django", "flask", "fastapi", "starlette", "pydantic")


@dataclass(frozen=True)
class Application:
    """``application.toml``: whose code, at which commit, with which versions, and what changes."""

    folder: Path
    repository: str
    commit: str
    framework: str
    #: The versions that it names: files of the checkout, or requirements.
    requirements: list[str]
    python: str = "3.11"
    #: The part of the checkout that is its code, if not all of it.
    code: str = "."
    #: Pins of theirs that cannot be installed here, and what takes their place.
    replaced: dict[str, str] = field(default_factory=dict)
    #: Run in its environment and folder before the start, as its own instructions say.
    setup: list[list[str]] = field(default_factory=list)
    #: Of the setup's commands and of ``twolane up``.
    environment: dict[str, str] = field(default_factory=dict)
    #: The Celery that it asks for, as its file says it.
    pin: str = ""
    #: Lines of theirs that change: file, line, by.
    edit: list[dict[str, str]] = field(default_factory=list)
    #: What had to change, in a sentence, for the table of docs/applications.md.
    changed: str = ""

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def added(self) -> list[Path]:
        return sorted(path for path in (self.folder / "added").rglob("*") if path.is_file())

    @property
    def lines(self) -> tuple[int, int]:
        """The lines of Python that are added or changed, and those of the template.

        Blank lines and comments are not counted.
        """
        python = sum(_counted(path) for path in self.added if path.suffix == ".py")
        template = sum(_counted(path) for path in self.added if path.suffix == ".yaml")
        return python + len(self.edit), template


def _counted(path: Path) -> int:
    lines = (line.strip() for line in path.read_text().splitlines())
    return sum(1 for line in lines if line and not line.startswith("#"))


def applications() -> list[Application]:
    return [
        Application(folder=path.parent, **tomllib.loads(path.read_text()))
        for path in sorted(HERE.glob("*/application.toml"))
    ]


@dataclass
class Running:
    """An application under ``twolane up``, as its exercise sees it."""

    api: str
    aws: str
    code: Path
    bin: Path
    log: Path
    environ: dict[str, str]
    client: httpx.Client

    def command(self, *arguments: str) -> Any:
        """What ``twolane ARGUMENTS --json`` prints, line by line."""
        return [json.loads(line) for line in self._twolane(*arguments, "--json").splitlines()]

    def _twolane(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.bin / "twolane"), *arguments],
            cwd=self.code, capture_output=True, text=True, timeout=60, check=False,
            env=self.environ,
        )  # fmt: skip
        assert done.returncode == 0, f"twolane {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def python(self, script: str) -> str:
        """What a script prints that runs where the worker's code does, with its environment."""
        worker = next(
            each["name"] for each in self.command("functions")[0] if each["logicalId"] == "Worker"
        )
        client = boto3.client(
            "lambda", endpoint_url=self.aws, region_name="us-east-1",
            aws_access_key_id="local", aws_secret_access_key="local",
        )  # fmt: skip
        known = client.get_function_configuration(FunctionName=worker)["Environment"]["Variables"]
        access = {"AWS_ENDPOINT_URL": self.aws, "AWS_REGION": "us-east-1",
                  "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local"}  # fmt: skip
        done = subprocess.run(
            [str(self.bin / "python"), "-c", script],
            cwd=self.code, capture_output=True, text=True, timeout=60, check=False,
            env={**self.environ, **access, **known},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def task(self, name: str) -> dict[str, int]:
        """How often a task was published, started, succeeded, failed, retried."""
        for each in self.command("tasks")[0]:
            if each["name"] == name:
                return dict(each["counts"])
        raise AssertionError(f"the worker does not know {name}")

    def counted(
        self, name: str, *, seconds: float = 60, more: bool = False, **counts: int
    ) -> dict[str, int]:
        """Wait until a task's counts are these, ``succeeded=1, retried=2``, or ``more``."""
        deadline = time.monotonic() + seconds
        while any((seen := self.task(name))[count] < least for count, least in counts.items()):
            assert time.monotonic() < deadline, f"{name} after {seconds} s: {seen}, not {counts}"
            time.sleep(0.3)
        exactly = {count: seen[count] for count in counts}
        assert more or exactly == counts, f"{name}: {exactly}, not {counts}"
        return seen

    def send(self, name: str, *args: Any, **kwargs: Any) -> str:
        """Send a task by hand; its id."""
        sent = self.command(
            "send", name, "--args", json.dumps(args), "--kwargs", json.dumps(kwargs)
        )
        return str(sent[0]["taskId"])

    def schedule(self, entry: str) -> list[str]:
        """Have beat send an entry now, having looked that it is listed; its next times."""
        listed = {each["name"]: each for each in self.command("schedules", "list")[0]}
        assert entry in listed, f"{entry} is not among {sorted(listed)}"
        self.command("schedules", "run", entry)
        return list(listed[entry]["next"])

    def tick(self) -> list[str]:
        """A tick of beat, as Scheduler sends it; the entries that it published."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        event = self.code / "tick.json"
        event.write_text(json.dumps({"time": moment}))
        said = json.loads(self._twolane("invoke", "Beat", "--running", "--event", str(event)))
        return [each["entry"] for each in said["published"]]

    def dead(self) -> int:
        """How many messages are on dead-letter queues."""
        return sum(each["visible"] for each in self.command("queues")[0] if each["deadLetterOf"])

    def logged(self, text: str, *, seconds: float = 30) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.log.read_text(errors="replace"):
            assert time.monotonic() < deadline, f"{text!r} is not in {self.log}"
            time.sleep(0.2)

    @staticmethod
    def until(look: Callable[[], T], what: str, *, seconds: float = 60) -> T:
        """Look until there is something to see."""
        return until(look, what, seconds=seconds)

    def wrong(self) -> list[str]:
        """Lines of the log that no application of somebody's should make us say."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if _WRONG.search(line)]


def until(look: Callable[[], T], what: str, *, seconds: float = 60) -> T:
    """Look until there is something to see."""
    deadline = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < deadline, f"after {seconds} s: no {what}"
        time.sleep(0.2)
    return seen


class Folders:
    """Where checkouts, environments and what runs are kept; never in the repository."""

    def __init__(self, suite: Path, work: Path) -> None:
        self.suite, self.work = suite, work

    def checkout(self, app: Application, *, clone: bool) -> Path:
        """The application's repository. Raises ``SystemExit`` where it is not there."""
        owner, name = app.repository.split("/")
        for candidate in (f"{owner}+{name}", f"{owner}/{name}", name):
            if (self.suite / candidate).is_dir():
                return self.suite / candidate
        if not clone:
            raise SystemExit(f"{app.repository} is not in {self.suite}: clone it, or give --clone")
        where = self.suite / f"{owner}+{name}"
        run(["git", "clone", "--quiet", f"https://github.com/{app.repository}", str(where)])
        return where

    def copy(self, app: Application, checkout: Path) -> Path:
        """A fresh copy at the commit that is named, with what we add and change; its code."""
        where = self.work / app.name / "code"
        shutil.rmtree(where, ignore_errors=True)
        where.mkdir(parents=True)
        archive = subprocess.run(
            ["git", "archive", app.commit, app.code], cwd=checkout, check=True, capture_output=True
        )
        subprocess.run(["tar", "x"], cwd=where, input=archive.stdout, check=True)
        code = where / app.code
        for change in app.edit:
            path = code / change["file"]
            text = path.read_text()
            if text.count(change["line"] + "\n") != 1:
                raise SystemExit(f"{app.name}: {change['file']} has no one line {change['line']!r}")
            path.write_text(text.replace(change["line"] + "\n", change["by"] + "\n"))
        for path in app.added:
            target = code / path.relative_to(app.folder / "added")
            if target.exists():
                raise SystemExit(f"{app.name}: {target.name} is there already")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, target)
        return code

    def wheels(self) -> list[Path]:
        """What would be published of this checkout."""
        where = self.work / "wheels"
        shutil.rmtree(where, ignore_errors=True)
        for project in OURS:
            run([*UV, "build", "--quiet", "--wheel", "--out-dir", str(where), str(project)])
        return sorted(where.glob("*.whl"))

    def environment(self, app: Application, checkout: Path, wheels: list[Path]) -> Path:
        """A virtual environment with the versions that the application asks for, and ours beside.

        Both are resolved at once: where ours does not fit theirs, this fails, as it would for
        whoever tries.
        """
        where = self.work / app.name / "venv"
        asked = "".join(f"{line}\n" for line in _asked(app, checkout))
        done = where / ".done"
        made_of = asked + "".join((path / "pyproject.toml").read_text() for path in OURS)
        install = [*UV, "pip", "install", "--quiet", "--python", str(where)]
        if not done.exists() or done.read_text() != made_of:
            run([*UV, "venv", "--quiet", "--clear", "--python", app.python, str(where)])
            (where / "asked.txt").write_text(asked)
            extra = "[local]" if len(wheels) == 1 else ""
            ours = [f"{wheel.name.split('-')[0]}{extra} @ file://{wheel}" for wheel in wheels]
            run([*install, "-r", str(where / "asked.txt"), *ours])
            done.write_text(made_of)
        else:
            run([*install, "--no-deps", "--reinstall", *map(str, wheels)])
        return where


def _asked(app: Application, checkout: Path) -> Iterator[str]:
    """The application's own requirements, line by line: of files at its commit, or as written."""
    for each in app.requirements:
        path = checkout / each
        if path.name == "uv.lock":
            yield from subprocess.run(
                [*UV, "export", "--quiet", "--frozen", "--no-hashes", "--no-dev",
                 "--no-emit-project", "--no-header", "--no-annotate", "--project", path.parent],
                check=True, capture_output=True, text=True,
            ).stdout.splitlines()  # fmt: skip
            continue
        if not path.is_file():
            yield each
            continue
        for line in path.read_text().splitlines():
            if line.strip() and not line.startswith(("#", "-r", "--hash", "    ")):
                yield app.replaced.get(line.strip(), line)


def run(command: list[str], **options: Any) -> None:
    """Raises ``SystemExit`` with the command's output where it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}:\n{done.stdout}{done.stderr}")


@contextlib.contextmanager
def up(app: Application, code: Path, venv: Path) -> Iterator[Running]:
    """The application under ``twolane up`` on free ports."""
    data = code.parents[len(Path(app.code).parts)] / "data"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir()
    kept = ("AWS_", "TWOLANE_", "PYTEST_", "REDIS_", "CELERY_", "VIRTUAL_ENV", "PYTHON")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(kept)}
    environ |= {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    environ |= {"DATA": str(data)}
    environ |= {name: value.replace("$DATA", str(data)) for name, value in app.environment.items()}
    for command in app.setup:
        run([str(venv / "bin" / command[0]), *command[1:]], cwd=code, env=environ)
    log = data / "log"
    flags = ["--json", "--port", "0", "--aws-port", "0", "--parameter", f"Data={data}"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(venv / "bin" / "twolane"), "up", *flags],
            cwd=code, stdout=out, stderr=subprocess.STDOUT, env=environ,
        )  # fmt: skip

    def ready() -> dict[str, Any] | None:
        text = log.read_text(errors="replace")
        assert process.poll() is None, f"twolane up ended:\n{text}"
        lines = [line for line in text.splitlines() if line.startswith('{"')]
        return dict(json.loads(lines[0])) if lines else None

    try:
        said = until(ready, f"start of {app.name}; see {log}")
        with httpx.Client(base_url=said["api"] or "", timeout=40, trust_env=False) as client:
            yield Running(said["api"] or "", said["aws"], code, venv / "bin", log, environ, client)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def exercise(app: Application, running: Running) -> None:
    """What ``exercise.py`` beside ``application.toml`` does; an assertion of it may fail."""
    spec = importlib.util.spec_from_file_location(
        f"{app.name}.exercise", app.folder / "exercise.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.exercise(running)


def versions(venv: Path) -> dict[str, str]:
    """What an environment got, of the names that matter here."""
    frozen = subprocess.run(
        [*UV, "pip", "freeze", "--quiet", "--python", str(venv)],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    pairs = (line.split("==") for line in frozen.splitlines() if "==" in line)
    return {name: version for name, version in pairs if name in SHOWN}


def table(found: list[Application]) -> str:
    """The table of docs/applications.md."""
    rows = []
    for app in sorted(found, key=lambda app: (app.framework, app.repository)):
        python, template = app.lines
        rows.append(
            f"| [{app.repository}](https://github.com/{app.repository}) `{app.commit[:7]}` "
            f"| {app.framework} | {app.pin} | {app.changed} | {python} + {template} |"
        )
    head = (
        "| application | framework | Celery | what had to change | lines |\n|---|---|---|---|---|"
    )
    return "\n".join([head, *rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("suite", type=Path, nargs="?", help="the folder with the checkouts")
    parser.add_argument("--work", type=Path, help="where environments and copies go (SUITE/.work)")
    parser.add_argument("--only", action="append", help="a folder's name; may be repeated")
    parser.add_argument("--clone", action="store_true", help="clone what is missing, from GitHub")
    parser.add_argument("--table", action="store_true", help="print the table of the docs, and end")
    options = parser.parse_args()
    found = [app for app in applications() if not options.only or app.name in options.only]
    if options.table:
        print(table(found))
        return 0
    if options.suite is None:
        parser.error("name a folder with checkouts")
    suite = options.suite.resolve()
    folders = Folders(suite, (options.work or suite / ".work").resolve())
    wheels = folders.wheels()
    failed = [
        app for app in found
        if not attempt(app, folders, folders.checkout(app, clone=options.clone), wheels)
    ]  # fmt: skip
    print(f"{len(found) - len(failed)} of {len(found)} applications do what is expected")
    return 1 if failed else 0


def attempt(app: Application, folders: Folders, checkout: Path, wheels: list[Path]) -> bool:
    """Whether one application does what is expected; says so."""
    began = time.monotonic()
    venv = folders.environment(app, checkout, wheels)
    code = folders.copy(app, checkout)
    got = " ".join(f"{name} {version}" for name, version in versions(venv).items())
    try:
        with up(app, code, venv) as running:
            exercise(app, running)
    except Exception as exc:  # noqa: BLE001 - each says what it is, and the next one has its turn
        where = traceback.extract_tb(exc.__traceback__)[-1]
        print(f"✗ {app.name}: {exc!r} at {where.line} ({Path(where.filename).name}:{where.lineno})")
        print(f"  {got}", flush=True)
        return False
    print(f"✓ {app.name}: {time.monotonic() - began:.0f} s; {got}", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
