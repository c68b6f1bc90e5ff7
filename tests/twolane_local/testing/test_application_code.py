"""Copies of an application's modules."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from twolane import WorkerHandler
from twolane_local.model import FunctionSpec, Stack
from twolane_local.testing import StaleImportError
from twolane_local.testing import application_code as code
from twolane_local.testing.project import Project, prepare, prepared
from twolane_local.testing.stale_imports import Suite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


SHOP = """
import os
from time import sleep
from typing import Any
CALLS = []
GREETING = os.environ.get("GREETING", "none")
class Greeter: ...
def handler(event, context):
    return GREETING
"""


@pytest.fixture
def project(tmp_path: Path, own_environ: None) -> Iterator[Callable[..., Project]]:
    """Makes projects of one module with other variables."""
    (tmp_path / "copied_shop.py").write_text(SHOP)
    path = list(sys.path)

    def make(greeting: str) -> Project:
        spec = FunctionSpec(
            "Api", "Api", "copied_shop.handler", tmp_path, environment={"GREETING": greeting}
        )
        return Project(Stack("local", (spec,)))

    yield make
    sys.path[:] = path
    sys.modules.pop("copied_shop", None)


def greeting(project: Project, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("GREETING", project.variables["GREETING"])
    with code.imported(project):
        return code.load(project.stack.functions[0], {})({}, None)


def test_each_environment_has_its_copy(project: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert greeting(project("one"), monkeypatch) == "one"
    assert greeting(project("two"), monkeypatch) == "two"
    assert greeting(project("one"), monkeypatch) == "one"
    assert "copied_shop" not in sys.modules


def test_a_copy_is_imported_once(project: Any) -> None:
    with code.imported(project("one")):
        first = code.load(project("one").stack.functions[0], {})
    with code.imported(project("one")):
        assert code.load(project("one").stack.functions[0], {}) is first


def test_what_was_there_before_comes_back(project: Any, tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path))
    import copied_shop

    with code.imported(project("other")):
        code.load(project("other").stack.functions[0], {})
        assert sys.modules["copied_shop"] is not copied_shop
    assert sys.modules["copied_shop"] is copied_shop


def suite(**held: object) -> Suite:
    """A test that uses these."""
    user = types.ModuleType("test_user")
    vars(user).update(held)
    exec(f"def test_uses(): return {', '.join(held)}", vars(user))
    return Suite((user,), {"test_uses": vars(user)["test_uses"]})


def run(project: Project, suite: Suite) -> None:
    with code.imported(project, suite) as imported:
        code.load(project.stack.functions[0], {})
        imported.loaded()


@pytest.mark.parametrize("name", ["copied_shop", "Greeter", "handler", "CALLS"])
def test_a_test_that_uses_parts_of_another_copy_is_told(
    project: Any, tmp_path: Path, name: str
) -> None:
    sys.path.insert(0, str(tmp_path))
    import copied_shop

    held = getattr(copied_shop, name, copied_shop)
    with pytest.raises(StaleImportError, match="test_uses uses 'held' of copied_shop"):
        run(project("third"), suite(held=held))
    with pytest.raises(StaleImportError, match="the parameter 'calls' uses copied_shop"):
        run(project("third"), Suite(values={"the parameter 'calls'": held}))
    assert sys.modules["copied_shop"] is copied_shop


def test_what_both_import_is_not_stale(project: Any, tmp_path: Path) -> None:
    sys.path.insert(0, str(tmp_path))
    import copied_shop

    # A function in C, and an object, which other modules have, too.
    run(project("fourth"), suite(os=copied_shop.os, sleep=copied_shop.sleep, any=copied_shop.Any))


def test_an_environment_that_was_there_early_needs_no_copy(project: Any) -> None:
    prepare(project("early"))
    try:
        import copied_shop

        assert copied_shop.GREETING == "early"
        with code.imported(project("early"), suite(held=copied_shop.handler)) as imported:
            imported.loaded()
            assert sys.modules["copied_shop"] is copied_shop
    finally:
        prepared.pop()


def test_in_an_environment_that_was_there_early_modules_stay(project: Any) -> None:
    prepare(project("stays"))
    try:
        run(project("stays"), Suite())
        first = sys.modules["copied_shop"]
        run(project("stays"), Suite())
        assert sys.modules["copied_shop"] is first
    finally:
        prepared.pop()


def test_a_buried_handler_gets_a_successor(application: Any) -> None:
    handler = WorkerHandler(application.celery)
    spec = FunctionSpec("Worker", "Worker", "worker.handler", Path())
    assert code.load(spec, {"Worker": handler}) is handler
    code.released(handler, True)
    assert code.load(spec, {"Worker": handler}) is handler
    code.released(handler, False)
    fresh = code.load(spec, {"Worker": handler})
    assert isinstance(fresh, WorkerHandler)
    assert fresh is not handler
    assert code.load(spec, {"Worker": handler}) is fresh


def test_a_copy_s_tasks_are_not_offered_to_another_copy(
    project: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "copied_shop.py").write_text(
        "import os\nfrom celery import Celery\n"
        "celery = Celery('copied', set_as_current=False)\n"
        "@celery.task(name='copied.task')\ndef task(): return os.environ['GREETING']\n"
        "def handler(event, context): return sorted(celery.tasks)\n"
    )
    for name in ("one", "two", "one"):
        assert "copied.task" in greeting(project(name), monkeypatch)


def test_modules_are_found_by_their_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, folder: Path) -> types.ModuleType:
        module = types.ModuleType(name)
        module.__file__ = str(folder / f"{name}.py")
        monkeypatch.setitem(sys.modules, name, module)
        return module

    mine, beside = tmp_path / "mine", tmp_path / "mine_too"
    first = load("found_first", mine)
    load("found_beside", beside)
    assert code.loaded_from((mine,)) == {"found_first": first}
    second = load("found_second", mine)
    assert code.loaded_from((mine,)) == {"found_first": first, "found_second": second}
    again = load("found_first", mine)  # neither their number nor the last one's name tells
    assert code.loaded_from((mine,)) == {"found_first": again, "found_second": second}
    monkeypatch.delitem(sys.modules, "found_second")
    load("found_other", beside)
    assert code.loaded_from((mine,)) == {"found_first": again}
    assert code.loaded_from(()) == {}
