"""docs/architecture.md names modules that exist, and the walks are the real ones."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
#: A reader follows no more modules than these.
MOST = {"inline": 30, "deferred": 45}


def exists(name: str) -> bool:
    tree = ROOT / ("local" if name.startswith("twolane_local") else "handlers")
    path = tree / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def walk(kind: str) -> list[str]:
    _, _, rest = PAGE.partition(f"<!-- walk: {kind} -->")
    return re.findall(r"^\d+\. `([\w.]+)`", rest.partition("\n## ")[0], re.MULTILINE)


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(twolane(?:_local)?[\w.]*)`", PAGE))))
def test_each_module_that_it_names_exists(name: str) -> None:
    assert exists(name)


@pytest.mark.parametrize("kind", MOST)
def test_a_walk_enters_few_modules(kind: str) -> None:
    assert 5 < len(walk(kind)) <= MOST[kind]


@pytest.mark.slow
def test_the_walks_are_those_of_a_request_and_a_task() -> None:
    ran = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("walk.py"))],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    for kind, entered in json.loads(ran.stdout.splitlines()[-1]).items():
        assert set(entered) - set(walk(kind)) == set(), kind
