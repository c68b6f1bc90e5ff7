"""What the local layer replaces has the shape that was tested; what it uses is listed."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

from twolane.patches.catalogue import ENTRIES as OF_THE_RUNTIME
from twolane.patches.catalogue import Entry
from twolane_local.patches import ENTRIES, TESTED, untested

from ...installed import shape_of  # noqa: TID252

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LOCAL = ROOT / "local" / "twolane_local"
SHAPES = json.loads((HERE / "shapes.json").read_text())
OLDER = tomllib.loads((HERE.parents[1] / "twolane" / "patches" / "older.toml").read_text())
PLACES = [place for entry in ENTRIES for place in entry.places]
#: Private names of ours, of the standard library, and of the runtime's own classes.
OURS = {
    "_actions", "_app", "_awake", "_clock_resolution", "_current_frames", "_endpoint", "_engine",
    "_gone", "_HelpAction", "_idle_semaphore", "_interval_s", "_pools", "_process", "_reserve_s",
    "_selector", "_SubParsersAction", "_thread", "_threads",
}  # fmt: skip


@pytest.fixture(scope="module")
def shapes() -> dict[str, str]:
    program = ROOT / "tests" / "twolane" / "patches" / "shape.py"
    ran = subprocess.run(
        [sys.executable, "-W", "ignore", str(program)],
        input=json.dumps(PLACES), capture_output=True, text=True, check=True,
    )  # fmt: skip
    found: dict[str, str] = json.loads(ran.stdout)
    return found


@pytest.mark.parametrize("place", PLACES)
def test_what_is_replaced_or_used_has_the_shape_that_was_tested(
    shapes: dict[str, str], place: str
) -> None:
    found = "gone" if shapes[place].startswith("gone") else shapes[place]
    assert found == shape_of(place, SHAPES, OLDER)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_each_entry_says_who_does_it_and_why(entry: Entry) -> None:
    assert (LOCAL.parent / f"{entry.user.replace('.', '/')}.py").is_file()
    assert len(entry.why.split()) > 5


def test_each_private_name_of_others_is_in_a_catalogue() -> None:
    """Where ruff was told that a private name is used on purpose."""
    entries = (*ENTRIES, *OF_THE_RUNTIME)
    known = {
        part for one in entries for place in one.places for part in re.split(r"[.:() ]+", place)
    }
    unlisted = []
    for path in LOCAL.rglob("*.py"):
        lines = path.read_text().splitlines()
        for node in ast.walk(ast.parse("\n".join(lines))):
            if not isinstance(node, ast.Attribute) or "SLF001" not in lines[node.lineno - 1]:
                continue
            if node.attr.startswith("_") and node.attr not in known | OURS:
                unlisted.append(f"{path.relative_to(LOCAL)}:{node.lineno} {node.attr}")
    assert unlisted == []


@pytest.mark.parametrize(
    ("version", "warned"), [("5.0.9", True), ("5.1.0", False), ("5.2.5rc1", False), ("5.3", True)]
)
def test_a_version_that_was_not_tested_gives_one_warning(version: str, warned: bool) -> None:
    def installed(library: str) -> str:
        if library == "moto":
            return version
        raise metadata.PackageNotFoundError

    said = list(untested(installed))
    assert len(said) == warned
    if warned:
        assert "Install moto>=5.1,<5.3" in said[0]


def test_what_is_replaced_is_bounded_where_it_is_required() -> None:
    required = [
        one
        for file in ("pyproject.toml", "local/pyproject.toml")
        for one in tomllib.loads((ROOT / file).read_text())["project"]["dependencies"]
    ]
    bounds = {re.split(r"[\[<>=;]", one)[0]: one.partition(";")[0] for one in required}
    for library, (first, end) in TESTED.items():
        assert bounds[library].endswith(f">={first},<{end}")


def test_the_installed_versions_are_tested_ones() -> None:
    assert list(untested()) == []
