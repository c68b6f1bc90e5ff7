"""The catalogue of mutants: each applies, to one place, and makes other code that compiles."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def _runner() -> Any:
    import sys

    spec = importlib.util.spec_from_file_location(
        "twolane_mutants", Path(__file__).parent / "run.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


run = _runner()
MUTANTS = run.load()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_it_applies_and_compiles(mutant: Any) -> None:
    text = (ROOT / mutant.file).read_text()
    mutated = mutant.applied(text)
    assert mutated != text
    compile(mutated, mutant.file, "exec")
    assert all((ROOT / near).exists() for near in mutant.near)
    assert mutant.invariant


def test_there_are_enough_and_no_two_are_one() -> None:
    assert len(MUTANTS) >= 60
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert len({(mutant.file, mutant.old, mutant.new) for mutant in MUTANTS}) == len(MUTANTS)


def test_a_line_that_is_gone_is_named() -> None:
    mutant = run.Mutant("name", "file.py", "old", "new", "L")
    with pytest.raises(ValueError, match=r"file\.py 0 times"):
        mutant.applied("other")
    with pytest.raises(ValueError, match=r"file\.py 2 times"):
        mutant.applied("old old")
