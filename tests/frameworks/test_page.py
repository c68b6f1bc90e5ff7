"""What docs/frameworks.md shows of the Django project is what the tests run."""

from __future__ import annotations

from ..docs.blocks import read  # noqa: TID252
from .conftest import HERE, ROOT


def test_the_pages_blocks_are_files_of_the_project() -> None:
    files = [path.read_text() for path in (HERE / "overlay").rglob("*") if path.is_file()]
    shown = [block for block in read(ROOT / "docs" / "frameworks.md") if block.markers]
    assert len(shown) == 5
    for block in shown:
        assert any(block.text.strip() in text for text in files), block.where
