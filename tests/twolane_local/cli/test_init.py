"""``twolane init``, and what runs what it has written: lint, pytest, ``twolane up``."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from twolane_local.checks import starter
from twolane_local.cli import exits

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[..., subprocess.CompletedProcess[str]]

BIN = Path(sys.executable).parent
ROOT = Path(__file__).parents[3]
CELERY = """
import os
from celery import Celery

DATABASE = os.environ["DATABASE_URL"]
celery_app = Celery("shop", broker=os.getenv("BROKER", "redis://:geheim@redis:6379/0"),
                    backend="redis://redis:6379/1", include=["shop.tasks"])
celery_app.conf.update(
    task_routes={"shop.tasks.report": {"queue": "slow-reports"}, "shop.mail.*": "mail"},
    task_time_limit=120,
    beat_schedule={"nightly": {"task": "shop.tasks.report", "schedule": 3600.0}},
)
"""
SHOP = {
    "backend/shop/__init__.py": "",
    "backend/shop/celery_app.py": CELERY,
    "backend/shop/tasks.py": """
from shop.celery_app import celery_app

@celery_app.task
def greet(name): return f"hello {name}"

@celery_app.task(time_limit=300)
def report(): return 1
""",
    # Nothing but this module knows of its task.
    "backend/shop/mail.py": """
from shop.celery_app import celery_app

@celery_app.task
def send(to): return to
""",
    "backend/shop/main.py": """
from fastapi import FastAPI
from shop.tasks import greet

def create_app():
    app = FastAPI()

    @app.post("/greetings/{name}")
    def publish(name: str):
        return {"id": greet.delay(name).id}

    return app

app = create_app()
admin = FastAPI()
""",
    "backend/.env.example": "",
    ".env": "DATABASE_URL=postgresql://db/shop\n",
    ".python-version": f"3.{sys.version_info.minor}\n",
    "backend/requirements.txt": "fastapi\ncelery\n",
}


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def environment(cache: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "PYTHON", "AWS_"))}
    return {**kept, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "XDG_CACHE_HOME": str(cache),
            "PYTHONDONTWRITEBYTECODE": "1"}  # fmt: skip


@pytest.fixture
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def run(tmp_path: Path, cache: Path) -> Run:
    def run(*command: str, code: int = exits.DONE) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [BIN / command[0], *command[1:]], cwd=tmp_path, env=environment(cache),
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done

    return run


def answers(folder: Path, cache: Path, path: str) -> httpx.Response:
    """What ``twolane up`` answers there."""
    log = cache / "log"
    with (
        log.open("wb") as out,
        subprocess.Popen(
            [BIN / "twolane", "up", "--json", "--port", "0", "--aws-port", "0", "--no-reload"],
            cwd=folder, env=environment(cache), stdout=subprocess.PIPE, stderr=out, text=True,
        ) as emulator,
    ):  # fmt: skip
        try:
            assert emulator.stdout is not None
            line = emulator.stdout.readline()
            assert line, log.read_text()
            return httpx.get(json.loads(line)["api"] + path, timeout=60)
        finally:
            emulator.send_signal(signal.SIGINT)
            emulator.communicate(timeout=60)


def works(run: Run, passed: int) -> None:
    """Lint finds nothing above a note, and the written test passes."""
    run("twolane", "lint", "--fail-on", "warning")
    tested = run("pytest", "-p", "twolane", "-W", "error", "-q")
    assert f"{passed} passed" in tested.stdout


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_an_application_gets_what_it_needs(tmp_path: Path, cache: Path, run: Run) -> None:
    write(tmp_path, SHOP)
    said = run("twolane", "init").stdout
    for line in (
        "FastAPI .*shop.main:app at backend/shop/main.py:14",
        "Celery .*shop.celery_app:celery_app at backend/shop/celery_app.py:6, 3 tasks",
        r"broker .*redis://:\*\*@redis:6379/0",
        "result backend .*redis://redis:6379/1",
        "queues .*celery, mail, slow-reports",
        r"beat_schedule .*nightly \(shop.tasks.report\)",
        "DATABASE_URL .*must be set, read at backend/shop/celery_app.py:5",
        r"Python .*\(.python-version\)",
        "written: .*template.yaml",
        "shop.main:app is taken, not shop.main:admin; --api MODULE:NAME",
    ):
        assert re.search(line, said), (line, said)
    assert "geheim" not in said
    works(run, 2)
    assert answers(tmp_path, cache, "/openapi.json").status_code == 200


def test_files_that_are_there_stay(tmp_path: Path, run: Run) -> None:
    write(tmp_path, {**SHOP, "template.yaml": "mine\n", "tests/test_own.py": ""})
    tried = json.loads(run("twolane", "init", "--dry-run", "--json").stdout)
    states = {each["path"]: each["state"] for each in tried["files"]}
    assert set(states.values()) == {"would write", "kept"}
    assert not (tmp_path / "backend/lambda_worker.py").exists()
    assert (tried["api"], tried["celery"]) == ("shop.main:app", "shop.celery_app:celery_app")
    assert tried["facts"]["celery"]["time_limits"] == {
        "celery": 120.0, "slow-reports": 300.0, "mail": 120.0,
    }  # fmt: skip
    assert "geheim" not in json.dumps(tried)

    said = run("twolane", "init").stdout
    assert "--- template.yaml is there already; with --force it becomes" in said
    assert "AWS::Serverless::Function" in said
    assert (tmp_path / "template.yaml").read_text() == "mine\n"
    assert "import shop.mail" in (tmp_path / "backend/lambda_worker.py").read_text()

    (tmp_path / "backend/lambda_worker.py").unlink()
    run("twolane", "init", "--force")
    assert "AWS::Serverless::Function" in (tmp_path / "template.yaml").read_text()
    has = run("twolane", "init").stdout
    assert "it has handlers already (backend/lambda_api.py:" not in has  # they are its own
    assert "unchanged: " in has


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"notes.txt": ""}, "holds no FastAPI, Starlette, Flask, Django or Celery application"),
        ({"app.py": "import fastapi, nowhere\napp = fastapi.FastAPI()\n"},
         "app does not import: ModuleNotFoundError: No module named 'nowhere' (app.py:1): install"),
        ({"app.py": "import os, fastapi\nos.environ['TOKEN']\napp = fastapi.FastAPI()\n"},
         "KeyError: 'TOKEN' (app.py:2): install what it needs into this environment, and give the"),
        ({"app.py": "import os, fastapi\napp = fastapi.FastAPI()\nos._exit(3)\n"},
         "exit status 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said(
    tmp_path: Path, run: Run, files: dict[str, str], says: str
) -> None:
    write(tmp_path, files)
    assert says in run("twolane", "init", code=exits.ERROR).stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(files)


def test_another_application_is_chosen(tmp_path: Path, run: Run) -> None:
    write(tmp_path, SHOP)
    run("twolane", "init", "--api", "shop.main:admin")
    assert "ApiHandler(admin)" in (tmp_path / "backend/lambda_api.py").read_text()
    wrong = run("twolane", "init", "--celery", "shop:app", code=exits.ERROR).stderr
    assert "no application shop:app; found: shop.celery_app:celery_app" in wrong


@pytest.mark.slow
def test_an_empty_folder_gets_the_project_of_the_first_page(tmp_path: Path, run: Run) -> None:
    (tmp_path / ".git").mkdir()
    run("twolane", "init")
    works(run, 2)
    assert "it has handlers already" in run("twolane", "init").stdout


def test_the_new_project_is_the_page_s() -> None:
    page = (ROOT / "docs" / "getting-started.md").read_text()
    fence = re.compile(r"<!-- file: hello/(\S+) -->\n```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
    blocks = fence.findall(page)
    assert dict(blocks).items() <= starter.NEW.items()


DJANGO: dict[str, str] = {
    "manage.py": "import os\nos.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site_.settings')\n",
    "site_/__init__.py": "from .celery import celery\n",
    "site_/settings.py": "SECRET_KEY = 'x'\nROOT_URLCONF = 'site_.urls'\nALLOWED_HOSTS = ['*']\n"
    "INSTALLED_APPS = ['orders']\nCELERY_BROKER_URL = 'redis://redis'\nUSE_TZ = True\n",
    "site_/celery.py": "import os\nfrom celery import Celery\n"
    "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'site_.settings')\n"
    "celery = Celery('site')\n"
    "celery.config_from_object('django.conf:settings', namespace='CELERY')\n"
    "celery.autodiscover_tasks()\n",
    "site_/asgi.py": "from django.core.asgi import get_asgi_application\n"
    "application = get_asgi_application()\n",
    "site_/urls.py": "urlpatterns = []\n",
    "orders/__init__.py": "",
    "orders/tasks.py": "from celery import shared_task\n@shared_task\ndef ship(pk): return pk\n",
}


@pytest.mark.slow
def test_a_django_project(tmp_path: Path, run: Run) -> None:
    write(tmp_path, DJANGO)
    found: Any = json.loads(run("twolane", "init", "--json").stdout)
    assert (found["api"], found["celery"]) == ("site_.asgi:application", "site_.celery:celery")
    assert found["facts"]["celery"]["tasks"] == ["orders.tasks.ship"]
    template = (tmp_path / "template.yaml").read_text()
    assert "DJANGO_SETTINGS_MODULE: site_.settings" in template
    works(run, 2)
