from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conftest import Project  # noqa: TID252


def test_a_standard_queue_may_have_a_window(project: Project) -> None:
    project.change("BatchSize: 10", "BatchSize: 10\n            MaximumBatchingWindowInSeconds: 5")
    assert project.found("TL106") == []


def test_a_fifo_queue_without_one_is_well(project: Project) -> None:
    project.change("VisibilityTimeout: 360", "VisibilityTimeout: 360\n      FifoQueue: true")
    assert project.found("TL106") == []


def test_a_fifo_queue_with_one(project: Project) -> None:
    project.change("VisibilityTimeout: 360", "VisibilityTimeout: 360\n      FifoQueue: true")
    project.change("BatchSize: 10", "BatchSize: 10\n            MaximumBatchingWindowInSeconds: 5")
    (finding,) = project.found("TL106")
    assert finding.line == project.line("MaximumBatchingWindowInSeconds")
    assert "take MaximumBatchingWindowInSeconds out" in finding.fix
