"""A template that AWS refuses gives one line with file, line and field; no traceback, no hang."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from tests.twolane_local.template.bad_templates import BAD

if TYPE_CHECKING:
    from pathlib import Path

#: Of processor time: a wall clock would measure what else runs on the machine.
MOST_S = 2.0


@pytest.mark.parametrize("name", BAD)
def test_up_says_one_line_and_ends(tmp_path: Path, name: str) -> None:
    bad = BAD[name]
    bad.write(tmp_path)
    with (tmp_path / "errors").open("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "twolane_local.cli", "up", "--port", "0", "--aws-port", "0",
             "--quiet", "--no-console"],
            cwd=tmp_path,
            stdout=errors,
            stderr=errors,
            env={**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")},
        )  # fmt: skip
        try:
            process.wait(20)
        finally:
            process.kill()
            process.wait()
        errors.seek(0)
        lines = errors.read().splitlines()
    assert process.returncode == 2, lines
    assert len(lines) == 1, lines
    assert bad.is_said_by(lines[0]), lines
