"""A Django project as ``django-admin startproject`` makes it, and scripts that run in it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).parent
ROOT = HERE.parents[1]

#: What a script finds in its namespace.
PRELUDE = """
import json, logging, sys
sys.path[:0] = [{paths}]
from tests.twolane.worker.conftest import Context, RecordedQueues, body, event, record

def say(**facts):
    print("SAID " + json.dumps(facts, default=str))
"""


@dataclass(frozen=True)
class Ran:
    """What a script said, and all that it printed."""

    said: dict[str, Any]
    output: str


def environ(**changes: str) -> dict[str, str]:
    """This process's environment without what would point an application somewhere."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(
            ("AWS_", "TWOLANE_", "PYTEST_", "REDIS_", "CELERY_", "DJANGO_", "SENTRY_", "OTEL_")
        )
    }
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **changes}


def run(command: list[str], folder: Path, **changes: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command, cwd=folder, env=environ(**changes), capture_output=True, text=True, timeout=100,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def run_script(text: str, folder: Path, **changes: str) -> Ran:
    """Run a script as a handler's process would, in a folder that is on the path."""
    paths = ", ".join(repr(str(each)) for each in (folder, ROOT, ROOT / "handlers", ROOT / "local"))
    script = PRELUDE.format(paths=paths) + textwrap.dedent(text)
    done = run([sys.executable, "-c", script], folder, **changes)
    said: dict[str, Any] = {}
    for line in done.stdout.splitlines():
        if line.startswith("SAID "):
            said |= json.loads(line.removeprefix("SAID "))
    return Ran(said, done.stdout + done.stderr)


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., Ran]:
    """``script(text, **environ)`` runs it in an empty folder."""
    return lambda text, **changes: run_script(text, tmp_path, **changes)


@dataclass(frozen=True)
class Project:
    """A Django project's folder, and a database of its own."""

    folder: Path
    database: Path

    def manage(self, *arguments: str) -> None:
        run([sys.executable, "manage.py", *arguments], self.folder, **self._environ())

    def script(self, text: str, **changes: str) -> Ran:
        """Run a script in the project."""
        return run_script(text, self.folder, **self._environ(), **changes)

    def _environ(self) -> dict[str, str]:
        return {
            "DJANGO_SETTINGS_MODULE": "shop.settings",
            "SHOP_DATABASE": str(self.database),
        }


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = tmp_path_factory.mktemp("django")
    project = Project(folder, folder / "made.sqlite3")
    django_admin = [sys.executable, "-m", "django", "startproject", "shop", "."]
    subprocess.run(django_admin, cwd=folder, check=True, timeout=60)
    shutil.copytree(HERE / "overlay", folder, dirs_exist_ok=True)
    settings = folder / "shop" / "settings.py"
    settings.write_text(settings.read_text() + (folder / "settings_tail.txt").read_text())
    project.manage("migrate", "--verbosity", "0")
    return project


@pytest.fixture
def project(made: Project, tmp_path: Path) -> Project:
    """The project with a database that no other test sees."""
    database = tmp_path / "db.sqlite3"
    shutil.copy(made.database, database)
    return Project(made.folder, database)
