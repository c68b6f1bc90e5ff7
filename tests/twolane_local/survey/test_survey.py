"""What is found in the source of an application, without importing it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.checks.survey import pytest_configuration, survey

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_modules_are_named_from_the_folder_that_they_are_imported_from(tmp_path: Path) -> None:
    app = "from fastapi import FastAPI\napp = FastAPI()\n"
    write(tmp_path, {
        "src/shop/__init__.py": "", "src/shop/main.py": app,
        # No __init__, but somebody imports it by its full name.
        "backend/api/main.py": app, "backend/api/use.py": "from api.main import app\n",
        "flat.py": app,
        # Not the application's.
        "tests/test_app.py": app, ".venv/lib/a.py": app, "test_it.py": app,
        "own/pyvenv.cfg": "", "own/lib/b.py": app, "broken.py": "def (",
    })  # fmt: skip
    found = {(each.root, each.module, each.name, each.where) for each in survey(tmp_path).web}
    assert found == {
        ("src", "shop.main", "app", "src/shop/main.py:2"),
        ("backend", "api.main", "app", "backend/api/main.py:2"),
        (".", "flat", "app", "flat.py:2"),
    }


def test_factories_and_kinds(tmp_path: Path) -> None:
    write(tmp_path, {
        "one.py": "def create_app(debug=False):\n    app = Flask(__name__)\n    return app\n",
        "two.py": "from one import create_app\napp = create_app()\n"
        "celery: Celery = app.extensions['celery']\n",
        "three.py": "application = get_asgi_application()\n",
        "four.py": "def needs(settings):\n    return FastAPI()\n",
    })  # fmt: skip
    found = survey(tmp_path)
    assert [(e.kind, e.module, e.name, e.factory) for e in found.web] == [
        ("Flask", "one", "create_app", True),
        ("Django", "three", "application", False),
        ("Flask", "two", "app", False),
    ]
    assert [(e.module, e.name) for e in found.celery] == [("two", "celery")]


SETTINGS = """
import os
from celery import Celery
from decouple import config
from pydantic import Field
from pydantic_settings import BaseSettings

class Settings(BaseSettings):
    model_config = {"env_prefix": "SHOP_"}
    database_url: str
    token: str = "geheim"
    name: str = Field(default="shop")
    key: str = Field(..., min_length=3)

CELERY_TASK_ROUTES = {"shop.*": {"queue": "shop"}}
app = Celery("shop", broker="redis://:geheim@host/0", backend="rpc://")
app.conf.task_time_limit = 60
os.environ["WRITTEN"] = "1"
NEEDED = os.environ["NEEDED"]
OPTIONAL = os.getenv("OPTIONAL")
DEBUG = config("DEBUG", default=False)
SECRET = config("SECRET_KEY")
"""


def test_settings_and_variables(tmp_path: Path) -> None:
    found = survey(write(tmp_path, {"settings.py": SETTINGS}))
    assert {(each.name, each.value) for each in found.settings} == {
        ("task_routes", "{'shop.*': {'queue': 'shop'}}"),
        ("broker_url", "'redis://:**@host/0'"),
        ("result_backend", "'rpc://'"),
        ("task_time_limit", "60"),
    }
    assert {each.name: each.default for each in found.variables} == {
        "SHOP_DATABASE_URL": None, "SHOP_TOKEN": "a secret", "SHOP_NAME": "Field(default='shop')",
        "SHOP_KEY": None, "NEEDED": None, "OPTIONAL": "None", "DEBUG": "False", "SECRET_KEY": None,
    }  # fmt: skip
    assert "geheim" not in str(found.as_dict())


def test_python_packages_and_pytest(tmp_path: Path) -> None:
    assert pytest_configuration(tmp_path) == ""
    write(tmp_path, {
        "pyproject.toml": '[project]\nrequires-python = ">=3.11,<4"\n[tool.pytest.ini_options]\n',
        "uv.lock": "", "requirements-dev.txt": "", "requirements/base.txt": "",
        "manage.py": "os.environ.setdefault('DJANGO_SETTINGS_MODULE', 'shop.settings')",
    })  # fmt: skip
    found = survey(tmp_path)
    assert (found.python, found.python_where) == ("3.11", "pyproject.toml")
    assert found.packages == ("pyproject.toml", "uv.lock", "requirements/", "requirements-dev.txt")
    assert found.django == "shop.settings"
    assert pytest_configuration(tmp_path) == "pyproject.toml"
    write(tmp_path, {".python-version": "3.12.4\n"})
    assert survey(tmp_path).python == "3.12"
