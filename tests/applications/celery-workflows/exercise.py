"""Chains; a task that replaces itself by a chain, and one by a group whose members are chains."""

from __future__ import annotations

from typing import Any

TASKS = "workflows.worker.test_tasks"


def exercise(app: Any) -> None:
    app.send(f"{TASKS}.simple_pipeline.pipeline")
    app.counted(f"{TASKS}.simple_pipeline.print_result", succeeded=1)
    app.logged("print_result arg: [0, 1, 4, 9, 16]")
    app.send(f"{TASKS}.insert_chain.pipeline")
    app.counted(f"{TASKS}.insert_chain.print_result", succeeded=1)
    app.logged("print_result arg: 30")
    app.send(f"{TASKS}.split_group.pipeline")
    app.counted(f"{TASKS}.split_group.print_result", succeeded=5)
    app.counted(f"{TASKS}.split_group.square", succeeded=5)
    for square in (0, 1, 4, 9, 16):
        app.logged(f"print_result arg: {square}")
    # A signature as an argument.
    app.send(f"{TASKS}.print_task.pipeline")
    app.counted(f"{TASKS}.print_task.printer", succeeded=1)
    assert app.dead() == 0
    assert not app.wrong(), app.wrong()
