"""The proof that an account gives: its list in the documentation, its checks on the emulator."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROOF = ROOT / "infra" / "proof"
#: What says that something was not seen on AWS.
UNVERIFIED = re.compile(r"\b(?:un|not )verified\b", re.IGNORECASE)


@pytest.fixture(scope="module")
def prove() -> Any:
    import importlib.util

    spec = importlib.util.spec_from_file_location("twolane_proof", PROOF / "prove.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path[:] = before
        sys.modules.pop("checks", None)
    return module


def test_the_list_of_unverified_statements_is_made_from_the_checks(prove: Any) -> None:
    page = (ROOT / "docs" / "limits.md").read_text()
    listed = page.partition(prove.BEGIN)[2].partition(prove.END)[0].strip()
    assert listed == prove.unverified(prove.CHECKS)


def test_each_check_names_the_nearest_page(prove: Any) -> None:
    names = [check.name for check in prove.CHECKS]
    assert len(set(names)) == len(names)
    for check in prove.CHECKS:
        assert check.page.startswith("https://docs.aws.amazon.com/"), check.name


def test_what_is_called_unverified_names_its_check(prove: Any) -> None:
    names = {check.name for check in prove.CHECKS}
    folders = [ROOT / "handlers", ROOT / "local", ROOT / "docs"]
    files = [
        path for folder in folders for path in folder.rglob("*") if path.suffix in {".py", ".md"}
    ]
    for path in files:
        if path.name == "limits.md":
            continue
        lines = path.read_text().splitlines()
        for number, line in enumerate(lines):
            if UNVERIFIED.search(line):
                near = " ".join(lines[max(0, number - 1) : number + 4])
                assert any(f"`{name}`" in near for name in names), (
                    f"{path.name}:{number + 1}: {line}"
                )


def test_an_unknown_check_is_refused_by_name() -> None:
    command = [sys.executable, str(PROOF / "prove.py"), "--emulator", "no-such-check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no check is named so" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_emulator_answers_as_the_documentation_says(tmp_path: Path) -> None:
    answers = tmp_path / "answers.json"
    command = [sys.executable, str(PROOF / "prove.py"), "--emulator", "--json", str(answers)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = json.loads(answers.read_text())
    assert {one["name"] for one in said if one["emulator"]["holds"] is False} == set()
    assert all(one["emulator"]["said"] for one in said)
