"""Runs the blocks of one page, in order, in a fresh copy of the repository."""

from __future__ import annotations

import functools
import io
import json
import re
import subprocess
import sys
import tarfile
import tomllib
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from twolane_local.checks.lint import lint

from ..e2e.conftest import README_API, README_AWS, clean_environ, up  # noqa: TID252

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .blocks import Block

ROOT = Path(__file__).parents[2]
_IS_TEST = re.compile(r"^(async )?def test_", re.MULTILINE)
#: All of a page's Python blocks, each at its own lines, in one namespace.
_IN_ORDER = """
import json, sys, types
module = types.ModuleType("page")
sys.modules["page"] = module
for where, line, text in json.load(sys.stdin):
    exec(compile("\\n" * (line - 1) + text, where, "exec"), vars(module))
"""
#: One file, beside its neighbours, as a handler's module is imported.
_IMPORTED = """
import pathlib, runpy, sys
sys.path.insert(0, str(pathlib.Path(sys.argv[1]).parent))
runpy.run_path(sys.argv[1])
"""


@functools.cache
def _archive() -> bytes:
    """What is tracked, or about to be, and what Python has compiled of it."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    names = [name for name in listed if name and (ROOT / name).is_file()]
    for source in ("handlers", "local"):
        compiled = (ROOT / source).rglob("__pycache__/*.pyc")
        names += [str(path.relative_to(ROOT)) for path in compiled if "pytest" not in path.name]
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name in names:
            archive.add(ROOT / name, name)
    return packed.getvalue()


def copy_of_repository(folder: Path) -> Path:
    """Unpack it, with the environment of this interpreter as `.venv`."""
    folder.mkdir(parents=True)
    subprocess.run(["tar", "-x", "-C", str(folder)], input=_archive(), check=True)
    (folder / ".venv").symlink_to(sys.prefix)
    return folder


class Runner:
    """Runs a page's blocks; close it to stop what they started."""

    def __init__(self, folder: Path) -> None:
        self._root = copy_of_repository(folder / "repository")
        self._aside = folder
        self._stack = ExitStack()
        self._addresses: dict[str, dict[str, str]] = {}
        self._python: list[Block] = []
        self._tests: list[str] = []
        (folder / "run").mkdir(mode=0o700)
        self._environ = clean_environ(
            PATH=f"{self._root}/.venv/bin:/usr/local/bin:/usr/bin:/bin",
            PYTHONPATH=f"{self._root}/handlers:{self._root}/local",
            HOME=str(folder),
            XDG_RUNTIME_DIR=str(folder / "run"),
            XDG_CACHE_HOME=str(folder / "cache"),
            no_proxy="*",
        )
        self._ways: dict[str, Callable[[Block], None]] = {
            "sh": self._shell,
            "python": self._python.append,
            "yaml": self._yaml,
            "json": lambda block: json.loads(block.text),
            "toml": lambda block: tomllib.loads(block.text) and None,
        }

    def run(self, blocks: Sequence[Block]) -> None:
        try:
            for block in blocks:
                if path := block.markers.get("file"):
                    self._file(block, path)
                elif block.language == "python" and _IS_TEST.search(block.text):
                    name = f"tests/test_{Path(block.page).stem}_{block.line}.py"
                    self._file(block, name)
                else:
                    self._ways[block.language](block)
            self._run_python()
            self._run_tests(blocks)
        finally:
            self._stack.close()

    def _child(self, arguments: list[str], what: str, given: str = "") -> None:
        done = subprocess.run(
            arguments, input=given, cwd=self._root, env=self._environ, capture_output=True,
            text=True, timeout=110, check=False,
        )  # fmt: skip
        said = f"{done.stdout}{done.stderr}"
        assert done.returncode == 0, f"{what} ended with {done.returncode}:\n{said}"

    def _shell(self, block: Block) -> None:
        state = self._aside / "state.sh"
        state.touch()
        text = block.text
        if "emulator" in block.markers:
            for documented, actual in self._emulator(block.markers["emulator"]).items():
                text = text.replace(documented, actual)
        # What a block sets is there for the next ones, as in a reader's shell.
        script = f"set -a\n. {state}\n{text}\n{{ export -p; declare -f; }} > {state}\n"
        self._child(["bash", "-euo", "pipefail", "-c", script], block.where)

    def _emulator(self, project: str) -> dict[str, str]:
        """The addresses as the page has them, and those of the project's emulator.

        One is started for each project that the page names; ours where it names none.
        """
        if project not in self._addresses:
            aside = self._aside / f"emulator-{len(self._addresses)}"
            aside.mkdir()
            service, _ = self._stack.enter_context(
                up(aside, cwd=self._root / project, **self._environ)
            )
            self._addresses[project] = {README_API: service.url, README_AWS: service.aws}
        return self._addresses[project]

    def _file(self, block: Block, name: str) -> None:
        path = self._root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(block.text)
        if path.name.startswith("test_"):
            self._tests.append(name)
        elif path.suffix == ".py":
            self._child([sys.executable, "-W", "error", "-c", _IMPORTED, name], block.where)
        else:
            self._parse_by_suffix(block, path)

    def _parse_by_suffix(self, block: Block, path: Path) -> None:
        if path.suffix in {".yaml", ".yml", ".json", ".toml"}:
            self._ways[path.suffix.lstrip(".").replace("yml", "yaml")](block)

    def _run_python(self) -> None:
        if self._python:
            blocks = [(block.page, block.line, block.text) for block in self._python]
            page = self._python[0].page
            self._child(
                [sys.executable, "-W", "error", "-c", _IN_ORDER], page, given=json.dumps(blocks)
            )

    def _run_tests(self, blocks: Sequence[Block]) -> None:
        """All of the page's test modules in one session: starting one takes longer than most."""
        if self._tests:
            options = ["-q", "--no-header", "-p", "no:cacheprovider", "-o", "addopts="]
            arguments = [*options, "--import-mode=importlib", *self._tests]
            self._child([sys.executable, "-m", "pytest", *arguments], blocks[0].page)

    def _yaml(self, block: Block) -> None:
        path = self._root / f"block-{block.line}.yaml"
        path.write_text(block.text)
        # Composed only, so that CloudFormation's tags need no constructor.
        root = yaml.compose(block.text, Loader=yaml.SafeLoader)
        if "Resources" not in {key.value for key, _ in getattr(root, "value", ())}:
            return
        found = {finding.rule.id for finding in lint(path, {})}
        expected = set(filter(None, block.markers.get("breaks", "").split(" ")))
        assert found == expected, f"{block.where}: twolane lint finds {found or 'nothing'}"
