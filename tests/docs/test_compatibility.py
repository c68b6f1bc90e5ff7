"""The page of versions agrees with what both distributions require, and with the tested ones."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from twolane.patches import TESTED

from ..matrix import run as matrix  # noqa: TID252

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "compatibility.md").read_text()


def required() -> dict[str, SpecifierSet]:
    """The bounds of both distributions, by name."""
    found: dict[str, SpecifierSet] = {}
    for file in ("pyproject.toml", "local/pyproject.toml"):
        project = tomllib.loads((ROOT / file).read_text())["project"]
        for one in map(Requirement, project["dependencies"]):
            found[one.name] = found.get(one.name, SpecifierSet()) & one.specifier
    return found


def rows() -> dict[str, dict[str, str]]:
    table = PAGE.partition(matrix.BEGIN)[2].partition(matrix.END)[0].strip().splitlines()
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table]
    titles, cells = (lines[0], lines[2:]) if lines else ([], [])
    return {line[0]: dict(zip(titles, line, strict=True)) for line in cells}


def test_each_version_in_the_table_is_within_the_bounds() -> None:
    bounds = required()
    titles = {"celery": "Celery", "kombu": "kombu", "redis": "redis-py", "fastapi": "FastAPI"}
    for name, row in rows().items():
        for library, title in titles.items():
            assert row[title] in bounds[library], f"{name}: {library} {row[title]}"


def test_each_minor_of_celery_has_a_row_with_the_suite() -> None:
    with_suite = {
        ".".join(row["Celery"].split(".")[:2])
        for row in rows().values()
        if row["Celery's own suite"].endswith("were skipped")
    }
    declared = {
        row.pins[0].removeprefix("celery==").removesuffix(".*") for row in matrix.ROWS if row.suite
    }
    first, end = TESTED["celery"]
    major = first.split(".")[0]
    supported = {f"{major}.{n}" for n in range(int(first.split(".")[1]), int(end.split(".")[1]))}
    assert declared == supported
    assert with_suite <= supported


def test_no_row_has_a_failure() -> None:
    for name, row in rows().items():
        assert re.search(r"\d+ passed", row["the runtime's tests"]), name
        assert not re.search("failed|error", " ".join(row.values())), name


def test_the_oldest_versions_are_the_lower_bounds() -> None:
    bounds = required()
    for library, version in matrix.OLDEST.items():
        if library not in bounds:
            continue
        (lower,) = (one.version for one in bounds[library] if one.operator == ">=")
        assert version in bounds[library], library
        assert version.startswith(lower), f"{library}: the oldest is {version}, the bound {lower}"


@pytest.mark.parametrize("library", ["celery", "redis", "mangum", "awslambdaric"])
def test_the_page_names_the_bounds(library: str) -> None:
    titles = {"celery": "Celery", "redis": "redis-py", "mangum": "Mangum"}
    (row,) = re.findall(rf"^\| {titles.get(library, library)} \| ([\d.]+) ", PAGE, re.MULTILINE)
    (lower,) = (one.version for one in required()[library] if one.operator == ">=")
    assert row == lower


def test_a_run_of_one_row_leaves_the_others() -> None:
    text = f"# page\n{matrix.BEGIN}{matrix.END}after\n"
    for name in ("Celery 5.5", "oldest"):
        text = matrix.written(text, {name: f"| {name} | 3.11 |"})
    text = matrix.written(text, {"oldest": "| oldest | 3.12 |"})
    assert re.findall(r"^\| (oldest|Celery 5.5) \| (\S+) \|$", text, re.MULTILINE) == [
        ("oldest", "3.12"), ("Celery 5.5", "3.11"),
    ]  # fmt: skip
    assert text.startswith("# page\n")
    assert text.endswith("after\n")
