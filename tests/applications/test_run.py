"""The runner's own parts; the applications themselves are run by ``make applications``."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("applications_run", HERE / "run.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_page_shows_what_the_folders_say(runner: Any) -> None:
    assert runner.table(runner.applications()) in (ROOT / "docs/applications.md").read_text()


def test_there_are_as_many_of_each_kind_as_the_page_says(runner: Any) -> None:
    found = runner.applications()
    # Those whose own versions are replaced are beside the count.
    own = [app for app in found if "→" not in app.pin]
    other = [app for app in own if not app.framework.startswith("FastAPI")]
    pinned = [app for app in own if app.pin.startswith(("5.4", "5.5", "5.6"))]
    assert (len(own) >= 8, len(other) >= 3, len(pinned) >= 3) == (True, True, True)
    for app in found:
        assert len(app.commit) == 40, app.name
        assert (app.folder / "exercise.py").is_file(), app.name
        # Handlers, a template, settings: nothing that could be theirs.
        assert {path.suffix for path in app.added} == {".py", ".yaml"}, app.name
        assert app.lines[0] < 40, app.name


@pytest.fixture
def theirs(tmp_path: Path) -> tuple[Path, str]:
    """A repository with one file, and its commit."""
    where = tmp_path / "suite" / "ada+shop"
    (where / "src").mkdir(parents=True)
    (where / "src" / "settings.py").write_text("BROKER = 'redis://'\nDEBUG = False\n")
    git = ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.com"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "One"]):
        subprocess.run([*git, *command], cwd=where, check=True)
    found = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=where, check=True, capture_output=True, text=True
    )
    return where, found.stdout.strip()


def test_a_copy_has_what_is_added_and_changed(
    runner: Any, theirs: tuple[Path, str], tmp_path: Path
) -> None:
    where, commit = theirs
    ours = tmp_path / "shop"
    (ours / "added").mkdir(parents=True)
    (ours / "added" / "handlers.py").write_text("# a comment\n\nimport settings\n")
    change = {"file": "settings.py", "line": "BROKER = 'redis://'", "by": "BROKER = 'sqs://'"}
    app = runner.Application(
        folder=ours, repository="ada/shop", commit=commit, framework="none", requirements=[],
        code="src", edit=[change],
    )  # fmt: skip
    assert app.lines == (2, 0)
    folders = runner.Folders(tmp_path / "suite", tmp_path / "work")
    code = folders.copy(app, folders.checkout(app, clone=False))
    assert (code / "settings.py").read_text() == "BROKER = 'sqs://'\nDEBUG = False\n"
    assert (code / "handlers.py").is_file()
    # The checkout stays as it is.
    assert "redis" in (where / "src" / "settings.py").read_text()
    app.edit[0]["line"] = "BROKER = 'amqp://'"
    with pytest.raises(SystemExit, match="has no one line"):
        folders.copy(app, where)


def test_what_is_not_there_is_named(runner: Any, tmp_path: Path) -> None:
    app = runner.applications()[0]
    with pytest.raises(SystemExit, match="clone it, or give --clone"):
        runner.Folders(tmp_path, tmp_path).checkout(app, clone=False)
