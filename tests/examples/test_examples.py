"""The projects of ``examples/``: each lints, passes its own tests, and starts."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from ..e2e.conftest import BIN, clean_environ, until, up  # noqa: TID252

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..e2e.conftest import Service  # noqa: TID252

EXAMPLES = Path(__file__).parents[2] / "examples"
NAMES = sorted(path.parent.name for path in EXAMPLES.glob("*/template.yaml"))


def twolane_lint(*flags: str) -> subprocess.CompletedProcess[str]:
    """`twolane lint` on all of them; it fails where a finding is worse than a note."""
    command = [BIN / "twolane", "lint", *flags, *(f"{name}/template.yaml" for name in NAMES)]
    return subprocess.run(
        command, cwd=EXAMPLES, env=clean_environ(), capture_output=True, text=True, check=False
    )


def test_the_templates_have_no_finding() -> None:
    done = twolane_lint("--template-only", "--fail-on", "note")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_templates_and_applications_have_no_finding_above_a_note() -> None:
    done = twolane_lint("--fail-on", "warning")
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_index_names_each() -> None:
    assert set(NAMES) == {path.parent.name for path in EXAMPLES.glob("*/README.md")}
    index = (EXAMPLES / "README.md").read_text()
    assert set(NAMES) == set(re.findall(r"]\(([a-z-]+)/\)", index))


@pytest.mark.parametrize("name", NAMES)
def test_what_was_changed_is_there(name: str) -> None:
    """Each line that the README shows as added is in its file, and none that it shows as gone."""
    readme = (EXAMPLES / name / "README.md").read_text()
    (changes,) = re.findall(r"## What was changed\n.*?```diff\n(.*?)```", readme, re.DOTALL)
    text, files = [], []
    for line in changes.splitlines():
        if match := re.match(r"\+\+\+ (\S+)", line):
            files.append(match[1])
            text = (EXAMPLES / name / match[1]).read_text().splitlines()
        else:
            assert (line[1:] in text) == (line[0] == "+"), f"{files[-1]}: {line}"
    assert {"template.yaml", "code/worker.py", "code/requirements.txt"} <= set(files)


def own_database(name: str, folder: Path) -> list[str]:
    """The parameter that keeps a run's database apart from those of others on this machine."""
    parameters = {
        "django": f"DatabaseName={folder}/shop.sqlite3",
        "monolith": f"DatabaseUrl=sqlite:///{folder}/shop.sqlite3",
    }
    return [parameters[name]] if name in parameters else []


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_its_own_tests_pass(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    for parameter in own_database(name, tmp_path):
        command += ["-o", f"twolane_parameters={parameter}"]
    done = subprocess.run(
        [*command, "-p", "twolane"], cwd=EXAMPLES / name, capture_output=True, text=True,
        check=False, env=clean_environ(PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^[0-9]+ passed in", done.stdout, re.MULTILINE), done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "commands"),
    [
        ("django", ["-m manage makemigrations --check --dry-run"]),
        ("monolith", ["-m alembic upgrade head", "-m alembic check"]),
    ],
)
def test_its_migrations_are_those_of_its_models(
    name: str, commands: list[str], tmp_path: Path
) -> None:
    database = f"{tmp_path}/shop.sqlite3"
    environ = clean_environ(DATABASE_NAME=database, DATABASE_URL=f"sqlite:///{database}")
    for command in commands:
        done = subprocess.run(
            [sys.executable, *command.split()], cwd=EXAMPLES / name / "code", env=environ,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


def ask(service: Service, method: str, path: str, **options: Any) -> Any:
    answer = httpx.request(method, f"{service.url}{path}", timeout=60, trust_env=False, **options)
    assert answer.is_success, f"{answer.text}\n{service.log_text()}"
    return answer.json()


def succeeded(service: Service, identity: str) -> Any:
    """The result of a task, as ``GET /tasks/ID`` shows it once the task has ended."""

    def look() -> Any:
        task = ask(service, "GET", f"/tasks/{identity}")
        return task if task["state"] == "SUCCESS" else None

    return until(look, f"result of {identity}", seconds=60)["result"]


def migrate(service: Service) -> None:
    client = service.client("lambda")
    names = [function["FunctionName"] for function in client.list_functions()["Functions"]]
    (name,) = [name for name in names if "Migrate" in name]
    done = client.invoke(FunctionName=name, Payload="{}")
    assert "FunctionError" not in done, done["Payload"].read()


def quickstart(service: Service) -> None:
    identity = ask(service, "POST", "/signups/Ada")["id"]
    assert succeeded(service, identity) == "Welcome, Ada"
    service.logged("Counted Ada")


def monolith(service: Service) -> None:
    migrate(service)
    identity = ask(service, "POST", "/orders", params={"item": "book"})["id"]
    until(lambda: ask(service, "GET", f"/orders/{identity}")["paid"] or None, "payment", seconds=60)


def queues(service: Service) -> None:
    ask(service, "POST", "/accounts/ann/bookings", params={"cents": 5})
    album = ask(service, "POST", "/albums", json=["a.jpg", "b.jpg"])["id"]
    done = {"photos": 2, "done": 2}
    until(lambda: ask(service, "GET", f"/albums/{album}") == done or None, "thumbnails", seconds=60)
    service.logged("Booked ann +5", seconds=60)


def beat_dynamodb(service: Service) -> None:
    body = succeeded(service, ask(service, "POST", "/reports")["id"])
    assert succeeded(service, body) == 16


def django(service: Service) -> None:
    migrate(service)
    identity = ask(service, "POST", "/orders/", data={"item": "book"})["id"]
    path = f"/orders/{identity}/"
    until(lambda: ask(service, "GET", path)["paid"] or None, "payment", seconds=60)


USES: dict[str, Callable[[Service], None]] = {
    "beat-dynamodb": beat_dynamodb,
    "django": django,
    "monolith": monolith,
    "queues": queues,
    "quickstart": quickstart,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_starts_and_both_lanes_run(name: str, tmp_path: Path) -> None:
    flags = [
        flag for parameter in own_database(name, tmp_path) for flag in ("--parameter", parameter)
    ]
    with up(tmp_path, *flags, cwd=EXAMPLES / name) as (service, _):
        USES[name](service)
