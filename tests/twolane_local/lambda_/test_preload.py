from __future__ import annotations

from typing import TYPE_CHECKING

from twolane_local.aws.lambda_ import preload

if TYPE_CHECKING:
    from pathlib import Path


def write(folder: Path, **files: str) -> None:
    for name, text in files.items():
        file = folder / (name.replace("__", "/") + ".py")
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)


def test_own_files_are_followed_and_others_named(tmp_path: Path) -> None:
    write(
        tmp_path,
        app__api="import json\nfrom app import other\nfrom .third import x\nimport fastapi.routing",
        app__other="import decimal\nfrom celery import Celery",
        app__third="import csv",
    )
    names = preload.modules("app.api.handler", [tmp_path])
    assert names[0] == "json"
    assert {"decimal", "celery", "csv", "fastapi.routing"} <= set(names)
    assert not [name for name in names if name in {"app.api", "app.other", "app.third"}]


def test_names_of_own_modules_are_not_imported(tmp_path: Path) -> None:
    # `from app.db import engine`: to import "app.db.engine" would run app.db.
    write(
        tmp_path,
        handler="from app.db import engine\nfrom values import NUMBER",
        app__db="import decimal\nengine = 1",
        values="NUMBER = 1",
    )
    assert preload.modules("handler.handler", [tmp_path]) == ["decimal"]


def test_only_what_runs_at_import_counts(tmp_path: Path) -> None:
    write(
        tmp_path,
        handler="""
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import decimal
else:
    import fractions
try:
    import uvloop
except ImportError:
    pass
def lazily():
    import boto3
""",
    )
    names = preload.modules("handler.handler", [tmp_path])
    assert {"fractions", "uvloop"} <= set(names)
    assert not {"decimal", "boto3"} & set(names)


def test_what_reads_lambdas_variables_at_import_is_left_to_the_environments(
    tmp_path: Path,
) -> None:
    write(tmp_path, handler="import twolane.api\nimport aws_xray_sdk.core\nimport json")
    assert preload.modules("handler.handler", [tmp_path]) == ["json"]


def test_broken_and_missing_files_are_left_to_the_import(tmp_path: Path) -> None:
    write(tmp_path, handler="import broken\nimport json", broken="1 +")
    assert preload.modules("handler.handler", [tmp_path]) == ["json"]
    assert preload.modules("nobody.handler", [tmp_path]) == ["nobody"]
