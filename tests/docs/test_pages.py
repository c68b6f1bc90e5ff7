"""Every block of every page of docs/ runs, or says why it cannot."""

from __future__ import annotations

from pathlib import Path

import pytest

from .blocks import MARKERS, SHOWN, Block, read
from .runner import Runner

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs").glob("*.md"))
RUN = frozenset({"sh", "python", "yaml", "json", "toml"})


def runnable(page: Path) -> list[Block]:
    return [
        block
        for block in read(page)
        if not {"not run", "tested"} & set(block.markers) and block.language not in SHOWN
    ]


#: Pages with many commands, each a process of its own.
LONG = {"lint.md", "application.md"}


def pages() -> list[object]:
    """A page that starts an emulator takes seconds."""
    return [
        pytest.param(
            page,
            id=page.name,
            marks=[pytest.mark.slow]
            * (page.name in LONG or any("emulator" in block.markers for block in blocks)),
        )
        for page in PAGES
        if (blocks := runnable(page))
    ]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", pages())
def test_blocks_run(page: Path, tmp_path: Path) -> None:
    Runner(tmp_path).run(runnable(page))


def test_the_index_names_every_page() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    missing = {page.name for page in PAGES if f"({page.name})" not in index} - {"README.md"}
    assert not missing


def test_every_block_has_a_language_and_markers_that_mean_something() -> None:
    for page in PAGES:
        for block in read(page):
            assert set(block.markers) <= set(MARKERS), block.where
            known = RUN | SHOWN
            assert block.language in known or "not run" in block.markers, (
                f"{block.where}: a block of {block.language or 'no language'} is not run; "
                "say why: <!-- not run: REASON -->"
            )


def test_blocks_that_another_test_runs_name_it() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    for page in PAGES:
        for block in read(page):
            if name := block.markers.get("tested"):
                assert f"def {name}(" in tests, f"{block.where}: there is no {name}"


def test_few_blocks_do_not_run_and_each_says_why() -> None:
    left_out = [block for page in PAGES for block in read(page) if "not run" in block.markers]
    assert all(len(block.markers["not run"].split()) > 2 for block in left_out)
    places = [f"{block.where}: {block.markers['not run']}" for block in left_out]
    assert len(places) <= 13, "\n".join(places)
