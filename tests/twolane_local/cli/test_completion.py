"""The scripts are read by the shells themselves, which then say what they would complete."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from twolane_local.cli.completion import SHELLS, script
from twolane_local.cli.parser import COMMANDS

if TYPE_CHECKING:
    from collections.abc import Callable

#: What is typed, and some of what must be offered.
TYPED = [
    ("twolane ", set(COMMANDS)),
    ("twolane dlq redrive --a", {"--all", "--args"}),
    ("twolane tail --state ", {"failed", "retried", "running", "ok"}),
    ("twolane ta", {"tail", "tasks"}),
    ("twolane dlq ", {"list", "show", "redrive", "purge"}),
    ("twolane up --template temp", {"template.yaml"}),
]

BASH = """
source "$1"
COMP_WORDS=($2); [[ $2 == *' ' ]] && COMP_WORDS+=('')
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$2; COMP_POINT=${#2}
spec=$(complete -p twolane)
function=${spec#*-F }; function=${function%% *}
$function twolane "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def run(command: list[str], cwd: Path) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, timeout=30, check=False,
        env={**os.environ, "TERM": "xterm", "HOME": str(cwd)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    return done.stdout


def bash(path: Path, typed: str) -> str:
    return run(["bash", "--norc", "-c", BASH, "bash", str(path), typed], path.parent)


def fish(path: Path, typed: str) -> str:
    lines = f"source {path}; complete -C {typed!r}"
    return run(["fish", "--no-config", "-c", lines], path.parent)


def zsh(path: Path, typed: str) -> str:
    """A real line editor in a pseudo terminal: zsh completes nowhere else."""
    return run([sys.executable, str(Path(__file__).parent / "zsh_keys.py"), str(path), typed],
               path.parent)  # fmt: skip


ASK: dict[str, Callable[[Path, str], str]] = {"bash": bash, "zsh": zsh, "fish": fish}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "template.yaml").touch()
    return tmp_path


#: zsh wants a terminal and somebody who waits for it.
CASES = [
    pytest.param(
        shell, typed, offered,
        marks=[pytest.mark.slow] if shell == "zsh" and number > 1 else [],
    )
    for shell in SHELLS
    for number, (typed, offered) in enumerate(TYPED)
]  # fmt: skip


@pytest.mark.parametrize(("shell", "typed", "offered"), CASES)
def test_the_shell_offers(folder: Path, shell: str, typed: str, offered: set[str]) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    path = folder / "_twolane"
    path.write_text(script(shell))
    words = set(ASK[shell](path, typed).split())
    assert offered <= words
