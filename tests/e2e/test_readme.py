"""README lines that no other test runs: what the commands show, and the test that it prints."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from .conftest import README_API, README_AWS, ROOT, clean_environ, readme_blocks, shell, up

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow


def test_a_dead_letter_is_seen_and_redriven(tmp_path: Path) -> None:
    # Commands find the emulator by a file in this folder; others run beside this test.
    here = {"XDG_RUNTIME_DIR": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    blocks = readme_blocks()
    script = blocks["functions"] + blocks["dead-lettered"] + blocks["seen"]
    with up(tmp_path, **here) as (service, _):
        for documented, actual in ((README_API, service.url), (README_AWS, service.aws)):
            script = script.replace(documented, actual)
        done = shell(script, **here)
    assert done.returncode == 0, done.stdout + done.stderr
    task = json.loads(next(line for line in done.stdout.splitlines() if line.startswith('{"id"')))
    assert f"{task['id']}, " in done.stdout  # the trace
    assert "attempt 4: failed" in done.stdout
    assert re.search(r"local-TaskDeadLetterQueue +[01] ", done.stdout)
    assert "ProviderUnavailableError" in done.stdout
    assert "is on local-TaskQueue again" in done.stdout


def test_the_test(tmp_path: Path) -> None:
    (tmp_path / "test_readme.py").write_text(readme_blocks()["test"])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ROOT,
         "-c", ROOT / "pyproject.toml", tmp_path / "test_readme.py"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100, env=clean_environ(),
    )  # fmt: skip
    assert "1 passed" in done.stdout, done.stdout + done.stderr
